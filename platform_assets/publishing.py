"""The last step of every hop: sift staged rows, quarantine the broken, write the rest, and account for each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from governance.quality import Suite, sift, suite
from platform_assets.conventions import ACCOUNTED, RULES, STREAMED
from resources.lakehouse import DAY, PLACE, Lakehouse, Seen, days_of
from signals.text import content_hash

QUARANTINE = "silver/quarantine"
# A quarantined row is kept whole up to this many characters; its source and position say where the rest is.
MAX_ROW = 65_536
PROVENANCE = ("source", "position", "received_at", DAY)
# Bodies and vectors do not help to see what is wrong with a row.
HEAVY = ("body", "vector")


class RowsLostError(RuntimeError):
    """Rows in are not rows out plus rows quarantined: a hop dropped or doubled some."""


def quarantined(table: str, broken: pl.DataFrame) -> pl.DataFrame:
    """Return rows of silver/quarantine for staged rows with a ``rule``, named so that a second time is the same."""
    content = [name for name in broken.columns if name not in (*PROVENANCE, "rule", *HEAVY)]
    row = pl.struct(content).struct.json_encode() if content else pl.lit("{}")
    staged = broken.select(pl.lit(table).alias("table"), "rule", row.str.slice(0, MAX_ROW).alias("row"), *PROVENANCE)
    names = pl.concat_str("table", "source", pl.col("position").cast(pl.String), "rule", "row", separator="\x1f")
    ids = names.map_elements(content_hash, return_dtype=pl.String).str.slice(0, 32)
    return staged.with_columns(quarantine_id=ids).unique("quarantine_id", keep="first", maintain_order=True)


def account(table: str, rows_in: int, rows_out: int, rows_quarantined: int) -> None:
    """Raise RowsLostError unless every row that came in is published or quarantined."""
    if rows_in != rows_out + rows_quarantined:
        raise RowsLostError(f"{table}: {rows_in} rows in, but {rows_out} out and {rows_quarantined} quarantined")


@dataclass(frozen=True)
class Hop:
    """A table's days on their way.

    Attributes:
        lakehouse: where the table is.
        table: its name.
        days: what was asked for.
        started: when the work began.
        marks: the state of its inputs then.
        versions: of quarantine and of the table then; None where there was none.
    """

    lakehouse: Lakehouse
    table: str
    days: Sequence[str]
    started: float
    marks: Mapping[str, int]
    versions: tuple[int | None, int | None]

    def publish(
        self,
        staged: pl.DataFrame,
        *,
        rows_in: int,
        broken: pl.DataFrame | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dg.MaterializeResult:
        """Put staged rows in the place of the hop's days.

        Args:
            staged: rows that may be published; of rows with one key, the preferred first.
            rows_in: rows that the hop read.
            broken: rows that already broke a rule, with ``rule``.
            metadata: more to show with the materialisation.

        Raises:
            RowsLostError: the counts do not add up; nothing has been written.
        """
        rules = suite(self.table)
        sifted = sift(staged, rules)
        rejected = quarantined(self.table, sifted.broken)
        if broken is not None and broken.height:
            rejected = pl.concat([quarantined(self.table, broken), rejected], how="vertical_relaxed")
        account(self.table, rows_in, sifted.kept.height, rejected.height)
        kept, ours = sifted.kept.sort(rules.key), f"\"table\" = '{self.table}'"
        places = pl.concat([kept.select(PLACE), rejected.select(PLACE)])
        other, this = Seen(self.versions[0], places, ("quarantine_id",)), Seen(self.versions[1], places, rules.key)
        self.lakehouse.replace_days(QUARANTINE, self.days, rejected, only=ours, seen=other)
        self.lakehouse.replace_days(self.table, self.days, kept, marks=self.marks, seen=this)
        if sifted.page is not None:
            self.lakehouse.write_file(f"reports/data_docs/{self.table.replace('/', '_')}.html", sifted.page.encode())
        counts = dict(rejected.group_by("rule").len().sort("rule").rows())
        return self.result(
            {
                "rows_in": rows_in,
                "rows_quarantined": rejected.height,
                "rules_broken": counts,
                **(metadata or {}),
            },
            rows_out=sifted.kept.height,
            check_results=checks(rules, rows_in, sifted.kept.height, counts),
        )

    def result(
        self, metadata: Mapping[str, Any], *, rows_out: int, check_results: Sequence[dg.AssetCheckResult] = ()
    ) -> dg.MaterializeResult:
        """Return the materialisation with what every table shows: rows, seconds and the table's version."""
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": rows_out,
                "seconds": round(time.perf_counter() - self.started, 3),
                "delta_version": self.lakehouse.version(self.table),
                **metadata,
            },
            check_results=check_results,
        )


def publish_increment(
    lakehouse: Lakehouse,
    table: str,
    staged: pl.DataFrame,
    *,
    rows_in: int,
    broken: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Add staged rows to what a table holds already.

    Rows that the table has from the same source and position are ours from before a kill: they are left as they are.
    A row with a stored row's key from elsewhere is quarantined, as within a hop.

    Args:
        lakehouse: where the table is.
        table: the table.
        staged: rows that may be published; of rows with one key, the preferred first.
        rows_in: rows that were read.
        broken: rows that already broke a rule, with ``rule``.

    Returns:
        The rows that the table now holds of those staged.

    Raises:
        RowsLostError: the counts do not add up; nothing has been written.
    """
    rules = suite(table)
    sifted = sift(staged, rules, page=False)
    days = days_of(sifted.kept)
    kept, repeated = sifted.kept, sifted.broken
    fresh, looked_at = kept, None
    if days and lakehouse.exists(table):
        ours = [*rules.key, "source", "position"]
        looked_at = lakehouse.version(table)
        stored = lakehouse.scan(table, days, looked_at).select(ours).collect()
        taken = kept.join(stored.select(rules.key), on=list(rules.key), how="semi")
        elsewhere = taken.join(stored, on=ours, how="anti", nulls_equal=True)
        kept, fresh = (
            kept.join(some, on=list(rules.key), how="anti", maintain_order="left") for some in (elsewhere, taken)
        )
        repeated = pl.concat([repeated, elsewhere.with_columns(rule=pl.lit("duplicate_key"))], how="diagonal")
    rejected = [quarantined(table, part) for part in (broken, repeated) if part is not None and part.height]
    account(table, rows_in, kept.height, sum(part.height for part in rejected))
    if rejected:
        lakehouse.insert_missing(QUARANTINE, pl.concat(rejected, how="vertical_relaxed"), ["quarantine_id"])
    lakehouse.insert_missing(table, fresh, rules.key, days=days or None, looked_at=looked_at)
    return kept


def begin(
    context: dg.AssetExecutionContext, lakehouse: Lakehouse, table: str, inputs: Sequence[str], made_by: str = "inputs"
) -> Hop:
    """Begin a hop: note the time, and the state of its inputs before any of them is read."""
    days = list(context.partition_keys)
    versions = [lakehouse.version(one) if lakehouse.exists(one) else None for one in (QUARANTINE, table)]
    marks = lakehouse.marks(inputs, days, made_by, streamed=table in STREAMED)
    return Hop(lakehouse, table, days, time.perf_counter(), marks, (versions[0], versions[1]))


def accounted_for(passed: bool, **counts: int) -> dg.AssetCheckResult:  # noqa: FBT001
    """Return the check that every row of a hop is somewhere."""
    return dg.AssetCheckResult(check_name=ACCOUNTED, passed=passed, metadata=counts)


def checks(rules: Suite, rows_in: int, rows_out: int, broken: Mapping[str, int]) -> list[dg.AssetCheckResult]:
    """Return a hop's two checks: every row accounted for, and few enough of them quarantined."""
    lost = sum(broken.values())
    share = lost / rows_in if rows_in else 0.0
    accounted = accounted_for(rows_in == rows_out + lost, rows_in=rows_in, rows_out=rows_out, rows_quarantined=lost)
    kept = dg.AssetCheckResult(
        check_name=RULES,
        passed=share <= rules.tolerated,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"quarantined_share": share, "tolerated": rules.tolerated, "rules_broken": dict(broken)},
    )
    return [accounted, kept]
