"""What has changed in a table between two of its versions."""

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from itertools import permutations
from typing import Any

import polars as pl
from deltalake import DeltaTable

from resources.lakehouse.days import DAY, only_days
from resources.lakehouse.tables import Lakehouse, VersionGoneError


def rows_of_new_files(
    lakehouse: Lakehouse, table: str, known: Container[str], columns: Sequence[str]
) -> tuple[pl.DataFrame, set[str]]:
    """Return some columns of the rows in those files of a table that are not known yet, and all files' names.

    The day is none of these columns: files do not hold it.
    """
    files = lakehouse.open(table).file_uris()
    fresh = [file for file in files if file not in known]
    stored = pl.Schema({name: kind for name, kind in lakehouse.scan(table).collect_schema().items() if name != DAY})
    if not fresh:
        return pl.DataFrame(schema={name: stored[name] for name in columns}), set(files)
    rows = pl.scan_parquet(
        fresh,
        schema=stored,
        missing_columns="insert",
        hive_partitioning=False,
        storage_options=lakehouse.storage or None,
    )
    return rows.select(columns).collect(), set(files)


def rows_between(
    lakehouse: Lakehouse, table: str, before: int | None, after: int, *, key: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    """Return the rows of a version of a table whose key an earlier version does not hold.

    Reads the days that have been changed between the two; all of them if ``before`` is None.

    Args:
        lakehouse: where the table is.
        table: the table.
        before: the earlier version.
        after: the version.
        key: columns that name a row.
        columns: those that are wanted besides.

    Raises:
        VersionGoneError: the log no longer knows one of the versions.
    """
    now, then = lakehouse.open_version(table, after), None if before is None else lakehouse.open_version(table, before)
    days = _days_changed(then, now)
    found = pl.scan_delta(now).select(*key, *columns, DAY)
    found = (found.filter(only_days(days)) if days else found.head(0)).drop(DAY)
    if days and then is not None:
        found = found.join(pl.scan_delta(then).filter(only_days(days)).select(key), on=list(key), how="anti")
    return found.collect()


def rows_changed(lakehouse: Lakehouse, table: str, before: int | None, columns: Sequence[str]) -> pl.DataFrame:
    """Return the values of some columns that rows of a table have now and had not in an earlier version, or had.

    Reads the days that have been changed since; all of them if ``before`` is None or no longer known.
    """
    now, then = lakehouse.open(table), None
    if before is not None:
        with suppress(VersionGoneError):
            then = lakehouse.open_version(table, before)
    days = _days_changed(then, now)
    types = {name: kind for name, kind in pl.scan_delta(now).collect_schema().items() if name in columns}
    sides = [_rows_of(delta, types, days) for delta in (now, then)]
    there, gone = (one.join(other, on=list(types), how="anti", nulls_equal=True) for one, other in permutations(sides))
    return pl.concat([there, gone])


def days_written(lakehouse: Lakehouse, table: str, since: datetime) -> list[str]:
    """Return the days of which a table has files that were written since a moment, oldest first."""
    files = pl.DataFrame(lakehouse.open(table).get_add_actions(flatten=True))
    written = pl.col("modification_time") >= int(since.timestamp() * 1000)
    return sorted({str(day) for day in files.filter(written)[f"partition.{DAY}"]}) if files.height else []


def _days_changed(before: DeltaTable | None, after: DeltaTable) -> list[str]:
    """Return the days whose files are not the same in two versions of a table; all of the later one if it is alone."""
    known, files = (set() if one is None else {*_days_of_files(one).items()} for one in (before, after))
    return sorted({str(day) for _, day in known ^ files})


def _days_of_files(delta: DeltaTable) -> dict[str, date]:
    """Return the day of each file of a table."""
    return dict(pl.DataFrame(delta.get_add_actions(flatten=True)).select("path", f"partition.{DAY}").iter_rows())


def _rows_of(delta: DeltaTable | None, types: Mapping[str, Any], days: Sequence[str]) -> pl.DataFrame:
    """Return the distinct values of some columns of a table on some days; null where it has no such column."""
    if delta is None or not days:
        return pl.DataFrame(schema=types)
    rows = pl.scan_delta(delta).filter(only_days(days))
    stored = rows.collect_schema()
    columns = (pl.col(name) if name in stored else pl.lit(None).alias(name) for name in types)
    return rows.select(columns).cast(dict(types)).unique().collect()
