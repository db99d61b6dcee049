"""The last step of every table: validate staged rows, quarantine what is rejected, write the rest, reconcile."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from governance import catalog
from governance.quality import preferred_first, validate
from platform_assets import lookups
from platform_assets.conventions import ACCOUNTED, RULES
from platform_assets.parsing import SourceSchema, declared
from resources.lakehouse.days import DAY, days_of, only_days
from resources.lakehouse.files import write_file
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.staleness import input_fingerprints, invalidate
from resources.lakehouse.tables import PLACE, Lakehouse, ReadRows
from signals.documents.text import content_hash

QUARANTINE = "silver/quarantine"
# A quarantined row is kept whole up to this many characters; its source and position say where the rest is.
MAX_ROW = 65_536
PROVENANCE = ("source", "position", "received_at", DAY)
# Bodies and vectors do not help to see what is wrong with a row.
HEAVY = ("body", "vector")
# Broken rows of any stage.
SHOWN = {
    "rule": pl.String,
    "row": pl.String,
    "source": pl.String,
    "position": pl.Int64,
    "received_at": pl.Datetime("us", "UTC"),
    DAY: pl.Date,
}
# So many rows, on each of which a stage raises, are no fault of the rows.
MANY = 64
Stage = Callable[[pl.DataFrame], pl.DataFrame]


class RowsLostError(RuntimeError):
    """Rows in are not rows out plus rows quarantined: some were dropped or doubled."""


def shown(broken: pl.DataFrame) -> pl.DataFrame:
    """Return broken rows of any stage in one shape: the rule, their content as JSON, and where they came from."""
    content = [name for name in broken.columns if name not in (*PROVENANCE, "rule", *HEAVY)]
    row = pl.struct(content).struct.json_encode() if content else pl.lit("{}")
    return broken.select("rule", row.alias("row"), *PROVENANCE).cast(dict(SHOWN))


def quarantined(table: str, broken: pl.DataFrame) -> pl.DataFrame:
    """Return rows of silver/quarantine for broken rows as ``shown``, named so that a second time is the same.

    A name is made from the whole row, and from how many rows of its place are the same before it.
    """
    ordinal = pl.int_range(pl.len()).over("source", "position", "rule", "row").cast(pl.String)
    names = pl.concat_str(
        pl.lit(table), "source", pl.col("position").cast(pl.String), "rule", "row", ordinal, separator="\x1f"
    )
    ids = names.map_elements(content_hash, return_dtype=pl.String).str.slice(0, 32)
    row = pl.col("row").str.slice(0, MAX_ROW)
    return broken.select(
        "rule", row, *PROVENANCE, table=pl.lit(table), quarantine_id=ids if broken.height else pl.lit("")
    ).select("table", "rule", "row", *PROVENANCE, "quarantine_id")


def quarantine(lakehouse: Lakehouse, table: str, broken: pl.DataFrame) -> None:
    """Add broken rows of a table, as ``shown``, to those that are quarantined already."""
    if broken.height:
        lakehouse.insert_missing(QUARANTINE, quarantined(table, broken), ["quarantine_id"])


def reconcile(table: str, rows_in: int, rows_out: int, rows_quarantined: int) -> None:
    """Raise RowsLostError unless every row that came in is published or quarantined."""
    if rows_in != rows_out + rows_quarantined:
        raise RowsLostError(f"{table}: {rows_in} rows in, but {rows_out} out and {rows_quarantined} quarantined")


def transformed(stage: Stage, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Apply a stage to rows; those on which it raises are found by halving.

    Args:
        stage: makes rows of rows, each of its own alone; ``rule`` names what a row that it makes breaks.
        rows: what it is given.

    Returns:
        What it made without those that break a rule, and these: rows that it made with the ``rule``, or rows that it
        was given with the exception as the rule.

    Raises:
        Exception: as the stage raises it, where it raises on each of many rows: then it is no fault of theirs.
    """
    made, faults = _halved(stage, rows)
    if len(faults) == rows.height >= MANY:
        raise faults[0][1]
    raised = [row.with_columns(rule=pl.lit(f"raised:{type(error).__name__}")) for row, error in faults]
    if "rule" not in made.columns:
        made = made.with_columns(rule=pl.lit(None, pl.String))
    named = made.filter(pl.col("rule").is_not_null())
    broken = [shown(part) for part in (named, *raised) if part.height]
    return made.filter(pl.col("rule").is_null()).drop("rule"), pl.concat([pl.DataFrame(schema=SHOWN), *broken])


def _halved(stage: Stage, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[tuple[pl.DataFrame, Exception]]]:
    try:
        return stage(rows), []
    except MemoryError:
        raise
    except Exception as error:
        if rows.height == 0:
            raise
        if rows.height == 1:
            nothing = stage(rows.clear())  # raises too where it is no fault of the row
            logging.getLogger(__name__).warning("a row of %s is quarantined: %r", rows["source"].item(), error)
            return nothing, [(rows, error)]
    half = rows.height // 2
    (made, faults), (more, others) = (_halved(stage, part) for part in (rows[:half], rows[half:]))
    return pl.concat([made, more], how="vertical_relaxed"), faults + others


@dataclass(frozen=True)
class PartitionWrite:
    """A table's days on their way.

    Attributes:
        lakehouse: where the table is.
        table: its name.
        days: what was asked for.
        started: when the work began.
        checkpoints: the state of its inputs then, and of what is looked up.
        versions: of quarantine and of the table then; None where there was none.
    """

    lakehouse: Lakehouse
    table: str
    days: Sequence[str]
    started: float
    checkpoints: Mapping[str, int]
    versions: tuple[int | None, int | None]

    def received(self, expected: SourceSchema) -> pl.DataFrame:
        """Return bronze rows of these days, and rows of other days that may be of the same record.

        What of a record's deliveries is published does not depend on which days are made.
        """
        stored, known = self.lakehouse.scan(expected.table), catalog.table(self.table)
        rows = stored.filter(only_days(self.days)).collect()
        if known.deliveries == expected.table:
            names = [name for name in known.key if name in expected.columns and name != catalog.TENANT]
            wanted = rows.lazy().select(names).unique()
            others = stored.filter(~only_days(self.days)).join(wanted, on=names, how="semi")
            rows = pl.concat([rows, others.collect()])
        return declared(rows, expected)

    def publish(
        self,
        stage: Stage,
        received: pl.DataFrame,
        *,
        several: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> dg.MaterializeResult:
        """Put what a stage makes of received rows in the place of the write's days.

        Args:
            stage: makes rows of rows. See ``transformed``.
            received: rows that were read, maybe some of other days.
            several: the stage may make several rows of one, or none.
            metadata: more to show with the materialisation.

        Raises:
            RowsLostError: the counts do not add up; nothing has been written.
        """
        known, of_days = catalog.table(self.table), only_days(self.days)
        staged, broken = transformed(stage, received)
        validated = validate(staged, known)
        kept = validated.valid.filter(of_days).sort(known.key)
        rejected = quarantined(self.table, pl.concat([broken, shown(validated.rejected)]).filter(of_days))
        made = (staged, broken) if several else (received,)
        rows_in = sum(part.filter(of_days).height for part in made)
        reconcile(self.table, rows_in, kept.height, rejected.height)
        ours = f"\"table\" = '{self.table}'"
        places = pl.concat([kept.select(PLACE), rejected.select(PLACE)])
        quarantined_before = ReadRows(self.versions[0], places, ("quarantine_id",))
        read = ReadRows(self.versions[1], places, known.key)
        self.lakehouse.replace_days(QUARANTINE, self.days, rejected, only=ours, read=quarantined_before)
        self.lakehouse.replace_days(self.table, self.days, kept, checkpoints=self.checkpoints, read=read)
        if validated.page is not None:
            name = f"reports/data_docs/{self.table.replace('/', '_')}.html"
            write_file(self.lakehouse, name, validated.page.encode())
        counts = dict(rejected.group_by("rule").len().sort("rule").rows())
        return self.result(
            {
                "rows_in": rows_in,
                "rows_quarantined": rejected.height,
                "rules_broken": counts,
                **(metadata or {}),
            },
            rows_out=kept.height,
            check_results=checks(known, rows_in, kept.height, counts),
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
    stage: Stage,
    received: pl.DataFrame,
    known: KeyIndex,
    *,
    several: bool = False,
) -> pl.DataFrame:
    """Add what a stage makes of received rows to what a table holds already.

    Rows that the table has from the same source and position are ours from before a kill: they are left as they are.
    A row with a stored row's key from elsewhere is quarantined, as within a write. Where it is preferred to the stored
    one, the days of both are to be made again by batch.

    Args:
        lakehouse: where the table is.
        table: the table.
        stage: makes rows of rows. See ``transformed``.
        received: rows that were read.
        known: the keys that the table holds.
        several: the stage may make several rows of one, or none.

    Returns:
        The rows that the table now holds of those staged.

    Raises:
        RowsLostError: the counts do not add up; nothing has been written.
    """
    of_table = catalog.table(table)
    key, prefer = list(of_table.key), [name.removeprefix("-") for name in of_table.prefer]
    staged, broken = transformed(stage, received)
    validated = validate(staged, of_table, page=False)
    stored, looked_at = known.stored(
        validated.valid, [name for name in {*prefer, *PLACE, DAY} if name in staged.columns]
    )
    kept = validated.valid.join(stored, on=[*key, *PLACE], how="semi", nulls_equal=True)
    elsewhere = stored.join(kept, on=key, how="anti", nulls_equal=True)
    repeated = validated.valid.join(elsewhere, on=key, how="semi", nulls_equal=True)
    fresh = validated.valid.join(stored, on=key, how="anti", nulls_equal=True, maintain_order="left")
    rejected = pl.concat(
        [broken, shown(pl.concat([validated.rejected, repeated.with_columns(rule=pl.lit("duplicate_key"))]))]
    )
    kept = pl.concat([kept, fresh])
    reconcile(table, staged.height + broken.height if several else received.height, kept.height, rejected.height)
    quarantine(lakehouse, table, rejected)
    both = pl.concat([repeated.select(elsewhere.columns), elsewhere])
    first = preferred_first(both, of_table.prefer).unique(key, keep="first", maintain_order=True)
    if first.join(elsewhere, on=[*key, *PLACE], how="anti", nulls_equal=True).height:
        invalidate(lakehouse, table, days_of(both), {})
    lakehouse.insert_missing(
        table, fresh, key, days=days_of(fresh) if of_table.within_day else None, looked_at=looked_at
    )
    return kept


def start(
    context: dg.AssetExecutionContext, lakehouse: Lakehouse, table: str, inputs: Sequence[str], made_by: str = "inputs"
) -> PartitionWrite:
    """Start a write: note the time, and the state of all that it reads before any of it is read."""
    days, seen = list(context.partition_keys), snapshot(lakehouse)
    versions = [seen.version(one) if seen.exists(one) else None for one in (QUARANTINE, table)]
    checkpoints = fingerprints_of(seen, table, inputs, days, made_by)
    return PartitionWrite(lakehouse, table, days, time.perf_counter(), checkpoints, (versions[0], versions[1]))


def fingerprints_of(
    lakehouse: Lakehouse, table: str, inputs: Sequence[str], days: Sequence[str], made_by: str = "inputs"
) -> dict[str, int]:
    """Return what a table keeps with the rows of some days: the state of its inputs, and of what is looked up."""
    known = catalog.table(table)
    return {
        **input_fingerprints(lakehouse, table, inputs, days, made_by, streamed=known.streamed),
        **lookups.versions(lakehouse, known, days),
    }


def reconciled(passed: bool, **counts: int) -> dg.AssetCheckResult:  # noqa: FBT001
    """Return the check that every row is somewhere."""
    return dg.AssetCheckResult(check_name=ACCOUNTED, passed=passed, metadata=counts)


def checks(table: catalog.Table, rows_in: int, rows_out: int, broken: Mapping[str, int]) -> list[dg.AssetCheckResult]:
    """Return a write's two checks: every row accounted for, and few enough of them quarantined."""
    lost = sum(broken.values())
    share = lost / rows_in if rows_in else 0.0
    accounted = reconciled(rows_in == rows_out + lost, rows_in=rows_in, rows_out=rows_out, rows_quarantined=lost)
    kept = dg.AssetCheckResult(
        check_name=RULES,
        passed=share <= table.tolerated,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"quarantined_share": share, "tolerated": table.tolerated, "rules_broken": dict(broken)},
    )
    return [accounted, kept]
