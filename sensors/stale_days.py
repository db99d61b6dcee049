"""Which days of which tables must be made (again), because what they are made from has changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg

from governance import catalog
from platform_assets.silver import decisions, embeddings
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from signals.traffic import Traffic

# Ranges whose gap is at most this many days are one run: empty days cost less than another run.
GAP = timedelta(days=31)


def daily_inputs(assets: Iterable[dg.AssetsDefinition]) -> dict[str, tuple[str, ...]]:
    """Return for each table with daily partitions the tables whose rows of a day make its rows of that day."""
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

    A table that does not exist is stale on the first day that any is, or today, so that it comes to be, if without
    rows: others read it.
    Vectors are stale where they are not of the encoder, and recent decisions where they are not of the versions that
    answer now.
    """
    found = {
        table: stale_days(
            lakehouse,
            table,
            tuple(of),
            encoder_id if table == embeddings.TABLE else "inputs",
            streamed=catalog.table(table).streamed,
        )
        for table, of in inputs.items()
    }
    if traffic is not None:
        found[decisions.TABLE] = sorted({*found[decisions.TABLE], *decisions.outdated_days(lakehouse, traffic, today)})
    first = min((day for days in found.values() for day in days), default=today.isoformat())
    missing = {table: sorted({first, *days}) for table, days in found.items() if not lakehouse.exists(table)}
    return {table: days for table, days in found.items() if days} | missing


@dataclass(frozen=True)
class RunPlan:
    """Tables that one run must make, for a range of days."""

    first: str
    last: str
    tables: tuple[str, ...]


def decide(stale_days: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]]) -> list[RunPlan]:
    """Return what must be made, oldest days first; nothing if nothing is stale.

    Args:
        stale_days: the stale days of each table that has any.
        inputs: for each table that may be made, the tables that its days are made from. A table is made too where
            one of them is.
    """
    days = sorted({date.fromisoformat(day) for table in inputs for day in stale_days.get(table, ())})
    ranges: list[list[date]] = []
    for day in days:
        if ranges and day - ranges[-1][-1] <= GAP:
            ranges[-1].append(day)
        else:
            ranges.append([day])
    return [_work(covered, stale_days, inputs) for covered in ranges]


def _work(days: list[date], stale_days: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]]) -> RunPlan:
    wanted = {day.isoformat() for day in days}
    tables = {table for table in inputs if wanted & set(stale_days.get(table, ()))}
    while more := {table for table, of in inputs.items() if tables & set(of)} - tables:
        tables |= more
    return RunPlan(min(wanted), max(wanted), tuple(sorted(tables)))
