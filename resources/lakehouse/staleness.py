"""Stale days: those of a table that were not made from the present state of its inputs."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import polars as pl
from deltalake import DeltaTable

from resources.lakehouse.checkpoints import (
    CHANGED,
    COMPACTED_AS,
    COMPACTED_FROM,
    INVALIDATED,
    Checkpoints,
    inputs_checkpoint,
)
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse


def fingerprints(lakehouse: Lakehouse, inputs: Iterable[str], *, streamed: bool = False) -> dict[str, int]:
    """Return for each day a fingerprint that changes whenever a file of that day changes in an input.

    Reads each table's log once, and no data.

    Args:
        lakehouse: where the tables are.
        inputs: the tables.
        streamed: ignore the changes that a stream has made, but not the days: the stream processes its rows itself.
    """
    changes: dict[str, list[str]] = {}
    for table in sorted(inputs):
        if (delta := lakehouse.open_if_exists(table)) is None:
            continue
        if streamed:
            changes = {str(partition[DAY]): [] for partition in delta.partitions()} | changes
            changed = CHANGED.matching(lakehouse.checkpoints(table))
            of_table = [(f"{version}", day) for day, version in changed.items()]
        else:
            of_table = [(f"{state}", day) for day, state in file_states(delta, lakehouse.checkpoints(table)).items()]
        for change, day in of_table:
            changes.setdefault(day, []).append(f"{table}:{change}")
    return {day: fingerprint(sorted(of_day)) for day, of_day in changes.items()}


def file_states(delta: DeltaTable, checkpoints: Checkpoints) -> dict[str, int]:
    """Return for each day a number that changes with its files, unless they were only compacted."""
    files = pl.DataFrame(delta.get_add_actions(flatten=True))
    if files.is_empty():
        return {}
    by_day = files.group_by(pl.col(f"partition.{DAY}").cast(pl.String)).agg(pl.col("path").sort())
    states = {day: fingerprint(paths) for day, paths in by_day.iter_rows()}
    before, after = COMPACTED_FROM.matching(checkpoints), COMPACTED_AS.matching(checkpoints)
    return {day: before[day] if after.get(day) == state else state for day, state in states.items()}


def input_fingerprints(
    lakehouse: Lakehouse,
    table: str,
    inputs: Sequence[str],
    days: Sequence[str],
    made_by: str = "inputs",
    *,
    streamed: bool = False,
) -> dict[str, int]:
    """Return the checkpoints that record, for each day, the state of a table's inputs and the maker."""
    current = _fingerprints(lakehouse, table, inputs, streamed=streamed)
    return {inputs_checkpoint(made_by, day): current.get(day, 0) for day in days} if inputs else {}


def stale_days(
    lakehouse: Lakehouse, table: str, inputs: Sequence[str], made_by: str = "inputs", *, streamed: bool = False
) -> list[str]:
    """Return the days that were not made from the present state of a table's inputs, oldest first."""
    recorded, current = lakehouse.checkpoints(table), _fingerprints(lakehouse, table, inputs, streamed=streamed)
    return sorted(day for day, state in current.items() if recorded.get(inputs_checkpoint(made_by, day)) != state)


def invalidate(lakehouse: Lakehouse, table: str, days: Iterable[str], checkpoints: Mapping[str, int]) -> None:
    """Mark days of a table as stale until they are made again, and store further checkpoints with that."""
    version = lakehouse.open(table).version() + 1
    lakehouse.save_checkpoints(table, {INVALIDATED.name(day): version for day in days} | {**checkpoints})


def _fingerprints(lakehouse: Lakehouse, table: str, inputs: Iterable[str], *, streamed: bool) -> dict[str, int]:
    """Return for each day a fingerprint that changes with a table's inputs, and whenever the day is invalidated."""
    of_inputs = fingerprints(lakehouse, inputs, streamed=streamed)
    invalidated = INVALIDATED.matching(lakehouse.checkpoints(table))
    return of_inputs | {
        day: fingerprint([str(of_inputs.get(day, 0)), str(version)]) for day, version in invalidated.items()
    }


def fingerprint(parts: Iterable[str]) -> int:
    """Return a positive 62-bit number that names a sequence of strings."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2
