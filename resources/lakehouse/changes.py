"""Differences between two versions of a table."""

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from itertools import permutations
from typing import Any

import polars as pl
from deltalake import DeltaTable

from resources.lakehouse.days import DAY, only_days
from resources.lakehouse.reading import LakehouseReader, VersionGoneError


def rows_of_new_files(
    lakehouse: LakehouseReader, table: str, known_files: Container[str], columns: Sequence[str]
) -> tuple[pl.DataFrame, set[str]]:
    """Return the rows of a table's new files, with some columns, and the names of all its files.

    The columns cannot include the day: files do not hold it.
    """
    files = lakehouse.open(table).file_uris()
    new_files = [file for file in files if file not in known_files]
    schema = pl.Schema({name: kind for name, kind in lakehouse.scan(table).collect_schema().items() if name != DAY})
    if not new_files:
        return pl.DataFrame(schema={name: schema[name] for name in columns}), set(files)
    rows = pl.scan_parquet(
        new_files,
        schema=schema,
        missing_columns="insert",
        hive_partitioning=False,
        storage_options=lakehouse.storage or None,
    )
    return rows.select(columns).collect(), set(files)


def rows_between(
    lakehouse: LakehouseReader,
    table: str,
    before: int | None,
    after: int,
    *,
    key: Sequence[str],
    columns: Sequence[str],
) -> pl.DataFrame:
    """Return the rows of a table's version whose key an earlier version does not hold.

    Reads the days that changed between the two; all days if ``before`` is None.

    Args:
        lakehouse: where the table is.
        table: the table.
        before: the earlier version.
        after: the later version.
        key: columns that name a row.
        columns: further columns to return.

    Raises:
        VersionGoneError: the log no longer holds one of the versions.
    """
    later = lakehouse.open_version(table, after)
    earlier = None if before is None else lakehouse.open_version(table, before)
    days = _days_changed(earlier, later)
    rows = pl.scan_delta(later).select(*key, *columns, DAY)
    rows = (rows.filter(only_days(days)) if days else rows.head(0)).drop(DAY)
    if days and earlier is not None:
        rows = rows.join(pl.scan_delta(earlier).filter(only_days(days)).select(key), on=list(key), how="anti")
    return rows.collect()


def rows_changed(lakehouse: LakehouseReader, table: str, before: int | None, columns: Sequence[str]) -> pl.DataFrame:
    """Return the distinct values of some columns that rows have gained or lost since an earlier version.

    Reads the days that changed since; all days if ``before`` is None or no longer in the log.
    """
    later, earlier = lakehouse.open(table), None
    if before is not None:
        with suppress(VersionGoneError):
            earlier = lakehouse.open_version(table, before)
    days = _days_changed(earlier, later)
    types = {name: kind for name, kind in pl.scan_delta(later).collect_schema().items() if name in columns}
    sides = [_distinct_rows(delta, types, days) for delta in (later, earlier)]
    differences = [a.join(b, on=list(types), how="anti", nulls_equal=True) for a, b in permutations(sides)]
    return pl.concat(differences)


def days_written(lakehouse: LakehouseReader, table: str, since: datetime) -> list[str]:
    """Return the days of a table's files that were written since a timestamp, oldest first."""
    files = pl.DataFrame(lakehouse.open(table).get_add_actions(flatten=True))
    written = pl.col("modification_time") >= int(since.timestamp() * 1000)
    return sorted({str(day) for day in files.filter(written)[f"partition.{DAY}"]}) if files.height else []


def _days_changed(before: DeltaTable | None, after: DeltaTable) -> list[str]:
    """Return the days whose files differ between two versions; all days of the later one without an earlier."""
    versions = [set() if delta is None else {*_days_of_files(delta).items()} for delta in (before, after)]
    return sorted({str(day) for _, day in versions[0] ^ versions[1]})


def _days_of_files(delta: DeltaTable) -> dict[str, date]:
    """Return the day of each file of a table."""
    return dict(pl.DataFrame(delta.get_add_actions(flatten=True)).select("path", f"partition.{DAY}").iter_rows())


def _distinct_rows(delta: DeltaTable | None, types: Mapping[str, Any], days: Sequence[str]) -> pl.DataFrame:
    """Return the distinct values of some columns on some days; null in a column that the version lacks."""
    if delta is None or not days:
        return pl.DataFrame(schema=types)
    rows = pl.scan_delta(delta).filter(only_days(days))
    schema = rows.collect_schema()
    columns = (pl.col(name) if name in schema else pl.lit(None).alias(name) for name in types)
    return rows.select(columns).cast(dict(types)).unique().collect()
