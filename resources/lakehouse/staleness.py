"""Which days of a table have not been made from its inputs as they are now."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from resources.lakehouse.checkpoints import CHANGED, INVALIDATED, made_from
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse


def fingerprints(lakehouse: Lakehouse, inputs: Iterable[str], *, streamed: bool = False) -> dict[str, int]:
    """Return for each day a number that changes whenever one of the inputs' files of that day changes.

    Costs one look at each table's log, and no reading of data.

    Args:
        lakehouse: where they are.
        inputs: the tables.
        streamed: what a stream has changed does not count, but that there is such a day: it takes that through
            the tables itself.
    """
    changes: dict[str, list[str]] = {}
    for table in sorted(inputs):
        if (delta := lakehouse.open_if_exists(table)) is None:
            continue
        if streamed:
            changes = {str(partition[DAY]): [] for partition in delta.partitions()} | changes
            found = [(f"{version}", day) for day, version in changed(lakehouse, table).items()]
        else:
            files = pl.DataFrame(delta.get_add_actions(flatten=True))
            found = files.select("path", pl.col(f"partition.{DAY}").cast(pl.String)).rows()
        for change, day in found:
            changes.setdefault(day, []).append(f"{table}:{change}")
    return {day: fingerprint(sorted(some)) for day, some in changes.items()}


def input_fingerprints(
    lakehouse: Lakehouse,
    table: str,
    inputs: Sequence[str],
    days: Sequence[str],
    made_by: str = "inputs",
    *,
    streamed: bool = False,
) -> dict[str, int]:
    """Return what a table keeps with its rows to say which state of its inputs they were made from, and by what."""
    found = _fingerprints(lakehouse, table, inputs, streamed=streamed)
    return {made_from(made_by, day): found.get(day, 0) for day in days} if inputs else {}


def stale_days(
    lakehouse: Lakehouse, table: str, inputs: Sequence[str], made_by: str = "inputs", *, streamed: bool = False
) -> list[str]:
    """Return the days of which a table has not been made from its inputs as they are now, oldest first."""
    made, found = lakehouse.checkpoints(table), _fingerprints(lakehouse, table, inputs, streamed=streamed)
    return sorted(day for day, state in found.items() if made.get(made_from(made_by, day)) != state)


def invalidate(lakehouse: Lakehouse, table: str, days: Iterable[str], checkpoints: Mapping[str, int]) -> None:
    """Have days of a table be stale until they are made again, and note up to where that has been looked into."""
    version = lakehouse.open(table).version() + 1
    lakehouse.keep_checkpoints(table, {INVALIDATED.name(day): version for day in days} | {**checkpoints})


def _fingerprints(lakehouse: Lakehouse, table: str, inputs: Iterable[str], *, streamed: bool) -> dict[str, int]:
    """Return for each day a number that changes with a table's inputs, and whenever the day is invalidated."""
    found = fingerprints(lakehouse, inputs, streamed=streamed)
    due = INVALIDATED.among(lakehouse.checkpoints(table))
    return found | {day: fingerprint([str(found.get(day, 0)), str(at)]) for day, at in due.items()}


def changed(lakehouse: Lakehouse, table: str) -> dict[str, int]:
    """Return the version at which each day of a table was last changed other than by a stream."""
    return CHANGED.among(lakehouse.checkpoints(table))


def fingerprint(parts: Iterable[str]) -> int:
    """Return a positive 62-bit number that names a sequence of strings."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2
