"""Publishing: validate staged rows, quarantine what is rejected, write the rest, reconcile the counts."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import polars as pl

from governance import catalog
from governance.consent import permitted
from governance.quality import Validated, preferred_first, validate
from platform_assets import lookups
from platform_assets.conventions import ACCOUNTED_CHECK, RULES_CHECK
from platform_assets.parsing import SourceSchema, declared
from resources.lakehouse.days import DAY, days_of, only_days
from resources.lakehouse.files import write_file
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.staleness import input_fingerprints, invalidate
from resources.lakehouse.tables import PLACE, Lakehouse, ReadRows
from signals.documents.text import content_hash

QUARANTINE = "silver/quarantine"
# Longer rows are cut in quarantine; source and position lead to the whole row.
MAX_ROW_CHARACTERS = 65_536
PROVENANCE = ("source", "position", "received_at", DAY)
# Bodies and vectors do not show what is wrong with a row.
OMITTED_COLUMNS = ("body", "vector")
BROKEN_ROWS = {
    "rule": pl.String,
    "row": pl.String,
    "source": pl.String,
    "position": pl.Int64,
    "received_at": pl.Datetime("us", "UTC"),
    DAY: pl.Date,
}
# A stage that raises on each of at least this many rows is itself at fault, not the rows.
SYSTEMIC_FAILURES = 64
Stage = Callable[[pl.DataFrame], pl.DataFrame]


class RowsLostError(RuntimeError):
    """Rows in are not rows out plus rows quarantined: some were dropped or doubled."""


def to_broken_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows of any stage as ``BROKEN_ROWS``: the rule, the content as JSON, and the provenance."""
    content = [name for name in rows.columns if name not in (*PROVENANCE, "rule", *OMITTED_COLUMNS)]
    row = pl.struct(content).struct.json_encode() if content else pl.lit("{}")
    return rows.select("rule", row.alias("row"), *PROVENANCE).cast(dict(BROKEN_ROWS))


def quarantine_rows(table: str, broken: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of silver/quarantine for ``BROKEN_ROWS``; the same rows always get the same ids.

    An id is made from the whole row, and from how many equal rows of its place come before it.
    """
    ordinal = pl.int_range(pl.len()).over("source", "position", "rule", "row").cast(pl.String)
    names = pl.concat_str(
        pl.lit(table), "source", pl.col("position").cast(pl.String), "rule", "row", ordinal, separator="\x1f"
    )
    ids = names.map_elements(content_hash, return_dtype=pl.String).str.slice(0, 32)
    row = pl.col("row").str.slice(0, MAX_ROW_CHARACTERS)
    return broken.select(
        "rule", row, *PROVENANCE, table=pl.lit(table), quarantine_id=ids if broken.height else pl.lit("")
    ).select("table", "rule", "row", *PROVENANCE, "quarantine_id")


def quarantine(lakehouse: Lakehouse, table: str, broken: pl.DataFrame) -> None:
    """Add a table's ``BROKEN_ROWS`` to silver/quarantine."""
    if broken.height:
        lakehouse.insert_missing(QUARANTINE, quarantine_rows(table, broken), ["quarantine_id"])


def reconcile(table: str, rows_in: int, rows_out: int, rows_quarantined: int) -> None:
    """Raise RowsLostError unless every row that came in is published or quarantined."""
    if rows_in != rows_out + rows_quarantined:
        raise RowsLostError(f"{table}: {rows_in} rows in, but {rows_out} out and {rows_quarantined} quarantined")


def apply_stage(stage: Stage, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Apply a stage to rows; the rows on which it raises are found by bisection.

    Args:
        stage: makes rows of each row by itself; a non-null ``rule`` marks a row as broken.
        rows: the stage's input.

    Returns:
        The stage's valid rows, and ``BROKEN_ROWS``: output rows with a ``rule``, and input rows with the exception as
        the rule.

    Raises:
        Exception: the stage raises on each of many rows, which is then no fault of theirs.
    """
    staged, failures = _bisect(stage, rows)
    if len(failures) == rows.height >= SYSTEMIC_FAILURES:
        raise failures[0][1]
    raised = [row.with_columns(rule=pl.lit(f"raised:{type(error).__name__}")) for row, error in failures]
    if "rule" not in staged.columns:
        staged = staged.with_columns(rule=pl.lit(None, pl.String))
    rejected = staged.filter(pl.col("rule").is_not_null())
    broken = [to_broken_rows(part) for part in (rejected, *raised) if part.height]
    valid = staged.filter(pl.col("rule").is_null()).drop("rule")
    return valid, pl.concat([pl.DataFrame(schema=BROKEN_ROWS), *broken])


def _bisect(stage: Stage, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[tuple[pl.DataFrame, Exception]]]:
    try:
        return stage(rows), []
    except MemoryError:
        raise
    except Exception as error:
        if rows.height == 0:
            raise
        if rows.height == 1:
            empty = stage(rows.clear())  # raises too where it is no fault of the row
            logging.getLogger(__name__).warning("a row of %s is quarantined: %r", rows["source"].item(), error)
            return empty, [(rows, error)]
    middle = rows.height // 2
    (left, left_failures), (right, right_failures) = (_bisect(stage, half) for half in (rows[:middle], rows[middle:]))
    return pl.concat([left, right], how="vertical_relaxed"), left_failures + right_failures


def _validated(staged: pl.DataFrame, entry: catalog.Table, *, page: bool = True) -> Validated:
    """Return staged rows by whether they keep every rule, without what may not be kept of persons."""
    validated = validate(staged, entry, page=page)
    valid, rejected = (permitted(rows, entry) for rows in (validated.valid, validated.rejected))
    return replace(validated, valid=valid, rejected=rejected)


@dataclass(frozen=True)
class PartitionWrite:
    """One write of some days of a table.

    Attributes:
        lakehouse: the tables.
        table: ``layer/table``.
        days: the days to replace.
        started: when the write began.
        checkpoints: the state of the table's inputs and lookups then.
        versions: of quarantine and of the table then; None if it did not exist.
    """

    lakehouse: Lakehouse
    table: str
    days: Sequence[str]
    started: float
    checkpoints: Mapping[str, int]
    versions: tuple[int | None, int | None]

    def read_deliveries(self, expected: SourceSchema) -> pl.DataFrame:
        """Return bronze rows of these days, and rows of other days that may deliver the same records.

        So the delivery that is published does not depend on which days are made together.
        """
        bronze, entry = self.lakehouse.scan(expected.table), catalog.table(self.table)
        rows = bronze.filter(only_days(self.days)).collect()
        if entry.deliveries == expected.table:
            ids = [name for name in entry.key if name in expected.columns and name != catalog.TENANT]
            repeated = KeyIndex(self.lakehouse, expected.table, ids).scan(rows.drop_nulls(ids))
            rows = pl.concat([rows, repeated.filter(~only_days(self.days)).collect()])
        return declared(rows, expected)

    def publish(
        self,
        stage: Stage,
        received: pl.DataFrame,
        *,
        several: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> dg.MaterializeResult:
        """Replace the write's days by what a stage makes of received rows.

        Args:
            stage: makes rows of rows. See ``apply_stage``.
            received: the stage's input; rows of other days are allowed.
            several: the stage may make several rows of one, or none.
            metadata: more metadata for the materialisation.

        Raises:
            RowsLostError: the counts do not add up; nothing has been written.
        """
        entry, in_days = catalog.table(self.table), only_days(self.days)
        staged, broken = apply_stage(stage, received)
        validated = _validated(staged, entry)
        published = validated.valid.filter(in_days).sort(entry.key)
        rejected = pl.concat([broken, to_broken_rows(validated.rejected)]).filter(in_days)
        rejected = quarantine_rows(self.table, rejected)
        rows_in = sum(part.filter(in_days).height for part in ((staged, broken) if several else (received,)))
        reconcile(self.table, rows_in, published.height, rejected.height)
        places = pl.concat([published.select(PLACE), rejected.select(PLACE)])
        self.lakehouse.replace_days(
            QUARANTINE,
            self.days,
            rejected,
            only=f"\"table\" = '{self.table}'",
            read=ReadRows(self.versions[0], places, ("quarantine_id",)),
        )
        read = ReadRows(self.versions[1], places, entry.key)
        self.lakehouse.replace_days(self.table, self.days, published, checkpoints=self.checkpoints, read=read)
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
            rows_out=published.height,
            check_results=write_checks(entry, rows_in, published.height, counts),
        )

    def result(
        self, metadata: Mapping[str, Any], *, rows_out: int, check_results: Sequence[dg.AssetCheckResult] = ()
    ) -> dg.MaterializeResult:
        """Return the materialisation with what every table reports: rows, seconds and the table's version."""
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
    key_index: KeyIndex,
    *,
    several: bool = False,
) -> pl.DataFrame:
    """Add what a stage makes of received rows to a table.

    Stored rows from the same source and position were written before a kill: they stay. A row with the key of a stored
    row from elsewhere is quarantined. Where it is preferred to the stored row, the days of both become stale.

    Args:
        lakehouse: the tables.
        table: ``layer/table``.
        stage: makes rows of rows. See ``apply_stage``.
        received: the stage's input.
        key_index: the keys that the table holds.
        several: the stage may make several rows of one, or none.

    Returns:
        The staged rows that the table now holds.

    Raises:
        RowsLostError: the counts do not add up; nothing has been written.
    """
    entry = catalog.table(table)
    key, order = list(entry.key), [name.removeprefix("-") for name in entry.prefer]
    staged, broken = apply_stage(stage, received)
    validated = _validated(staged, entry, page=False)
    columns = [name for name in {*order, *PLACE, DAY} if name in staged.columns]
    stored_rows, version = key_index.stored(validated.valid, columns)
    already_stored = validated.valid.join(stored_rows, on=[*key, *PLACE], how="semi", nulls_equal=True)
    elsewhere = stored_rows.join(already_stored, on=key, how="anti", nulls_equal=True)
    repeated = validated.valid.join(elsewhere, on=key, how="semi", nulls_equal=True)
    new_rows = validated.valid.join(stored_rows, on=key, how="anti", nulls_equal=True, maintain_order="left")
    rejected = pl.concat([validated.rejected, repeated.with_columns(rule=pl.lit("duplicate_key"))])
    rejected = pl.concat([broken, to_broken_rows(rejected)])
    published = pl.concat([already_stored, new_rows])
    rows_in = staged.height + broken.height if several else received.height
    reconcile(table, rows_in, published.height, rejected.height)
    quarantine(lakehouse, table, rejected)
    deliveries = pl.concat([repeated.select(elsewhere.columns), elsewhere])
    preferred = preferred_first(deliveries, entry.prefer).unique(key, keep="first", maintain_order=True)
    if preferred.join(elsewhere, on=[*key, *PLACE], how="anti", nulls_equal=True).height:
        invalidate(lakehouse, table, days_of(deliveries), {})
    lakehouse.insert_missing(
        table, new_rows, key, days=days_of(new_rows) if entry.within_day else None, looked_at=version
    )
    return published


def start(
    context: dg.AssetExecutionContext, lakehouse: Lakehouse, table: str, inputs: Sequence[str], made_by: str = "inputs"
) -> PartitionWrite:
    """Start a write: note the time, and the state of all that it reads before any of it is read."""
    days, tables = list(context.partition_keys), snapshot(lakehouse)
    versions = [tables.version(name) if tables.exists(name) else None for name in (QUARANTINE, table)]
    checkpoints = input_checkpoints(tables, table, inputs, days, made_by)
    return PartitionWrite(lakehouse, table, days, time.perf_counter(), checkpoints, (versions[0], versions[1]))


def input_checkpoints(
    lakehouse: Lakehouse, table: str, inputs: Sequence[str], days: Sequence[str], made_by: str = "inputs"
) -> dict[str, int]:
    """Return the checkpoints that a table keeps with some days: the state of its inputs and lookups."""
    entry = catalog.table(table)
    return {
        **input_fingerprints(lakehouse, table, inputs, days, made_by, streamed=entry.streamed),
        **lookups.versions(lakehouse, entry, days),
    }


def accounted_check(passed: bool, **counts: int) -> dg.AssetCheckResult:  # noqa: FBT001
    """Return the check that every row is accounted for."""
    return dg.AssetCheckResult(check_name=ACCOUNTED_CHECK, passed=passed, metadata=counts)


def write_checks(
    table: catalog.Table, rows_in: int, rows_out: int, broken: Mapping[str, int]
) -> list[dg.AssetCheckResult]:
    """Return a write's two checks: every row accounted for, and few enough of them quarantined."""
    quarantined = sum(broken.values())
    share = quarantined / rows_in if rows_in else 0.0
    accounted = accounted_check(
        rows_in == rows_out + quarantined, rows_in=rows_in, rows_out=rows_out, rows_quarantined=quarantined
    )
    rules = dg.AssetCheckResult(
        check_name=RULES_CHECK,
        passed=share <= table.tolerated,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"quarantined_share": share, "tolerated": table.tolerated, "rules_broken": dict(broken)},
    )
    return [accounted, rules]
