"""Which days of which tables must be made (again), because what they are made from has changed."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import dagster as dg

from resources.lakehouse import Lakehouse

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


def stale(lakehouse: Lakehouse, inputs: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the stale days of each table that has any."""
    found = {table: lakehouse.stale_days(table, tuple(of)) for table, of in inputs.items()}
    return {table: days for table, days in found.items() if days}


def decide(stale_days: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return the ranges of days (first, last) that runs must cover, oldest first; none if nothing is stale."""
    days = sorted({date.fromisoformat(day) for of in stale_days.values() for day in of})
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and day - ranges[-1][1] <= GAP:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return [(first.isoformat(), last.isoformat()) for first, last in ranges]
