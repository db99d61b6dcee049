"""Stale days: days of tables whose inputs have changed since they were made, and the run plans to make them again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg
import polars as pl

from governance import catalog
from platform_assets.operations.retention import removed_days
from platform_assets.silver import decisions, embeddings
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from signals.traffic import Traffic

# Days within this gap share a run: empty days cost less than another run.
GAP = timedelta(days=31)
# Bytes of compressed input up to which they do: all of it is in memory at once, also that of the days between.
RANGE_BYTES = 64 << 20


def daily_inputs(assets: Iterable[dg.AssetsDefinition]) -> dict[str, tuple[str, ...]]:
    """Return for each table with daily partitions the tables from whose rows of a day its rows are made."""
    specs = (spec for asset in assets for spec in asset.specs)
    return {
        spec.metadata["table"]: tuple(spec.metadata["inputs"])
        for spec in specs
        if spec.partitions_def is not None and spec.metadata.get("inputs")
    }


def stale(
    lakehouse: Lakehouse,
    inputs: Mapping[str, Iterable[str]],
    today: date,
    encoder_id: str = "",
    traffic: Mapping[str, Traffic] | None = None,
) -> dict[str, list[str]]:
    """Return the stale days of each table that has any.

    A missing table is stale on the first stale day of any, or today: others read it, so it is created, maybe without
    rows. Vectors are stale where they are of another encoder, recent decisions where other versions answer now. A day
    that has expired in the table or in one of its inputs stays as it is.
    """
    stale = {
        table: stale_days(
            lakehouse,
            table,
            tuple(sources),
            encoder_id if table == embeddings.TABLE else "inputs",
            streamed=catalog.table(table).streamed,
        )
        for table, sources in inputs.items()
    }
    if traffic is not None:
        stale[decisions.TABLE] = sorted({*stale[decisions.TABLE], *decisions.outdated_days(lakehouse, traffic, today)})
    removed = removed_days(lakehouse)
    for table, days in stale.items():
        expired = set[str]().union(*(removed.get(name, ()) for name in (table, *inputs[table])))
        stale[table] = [day for day in days if day not in expired]
    first = min((day for days in stale.values() for day in days), default=today.isoformat())
    missing = {table: sorted({first, *days}) for table, days in stale.items() if not lakehouse.exists(table)}
    return {table: days for table, days in stale.items() if days} | missing


@dataclass(frozen=True)
class RunPlan:
    """The tables of one run, and its range of days."""

    first: str
    last: str
    tables: tuple[str, ...]


def sizes(lakehouse: Lakehouse, inputs: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Return the bytes that tables are made from, by day; from the log alone."""
    found = Counter[str]()
    for table in {name for names in inputs.values() for name in names}:
        delta = lakehouse.open_if_exists(table)
        files = pl.DataFrame() if delta is None else pl.DataFrame(delta.get_add_actions(flatten=True))
        if files.height:
            by_day = files.group_by(pl.col(f"partition.{DAY}").cast(pl.String)).agg(pl.col("size_bytes").sum())
            found.update(dict(by_day.iter_rows()))
    return dict(found)


def decide(
    stale_days: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]], day_bytes: Mapping[str, int]
) -> list[RunPlan]:
    """Return the run plans that make stale days again, oldest days first.

    Args:
        stale_days: the stale days of each table that has any.
        inputs: the tables to plan, each with its inputs. A table is planned too where one of its inputs is.
        day_bytes: bytes of the inputs by day.
    """

    def read(first: date, last: date) -> int:
        return sum(size for day, size in day_bytes.items() if f"{first}" <= day <= f"{last}")

    days = sorted({date.fromisoformat(day) for table in inputs for day in stale_days.get(table, ())})
    ranges: list[list[date]] = []
    for day in days:
        if ranges and day - ranges[-1][-1] <= GAP and read(ranges[-1][0], day) <= RANGE_BYTES:
            ranges[-1].append(day)
        else:
            ranges.append([day])
    return [_plan(range_of_days, stale_days, inputs) for range_of_days in ranges]


def _plan(days: list[date], stale_days: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]]) -> RunPlan:
    dates = {day.isoformat() for day in days}
    tables = with_derived({table for table in inputs if dates & set(stale_days.get(table, ()))}, inputs)
    return RunPlan(min(dates), max(dates), tuple(sorted(tables)))


def with_derived(tables: set[str], inputs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return tables with all that are made from them, directly or not."""
    while derived := {table for table, sources in inputs.items() if tables & set(sources)} - tables:
        tables = tables | derived
    return tables
