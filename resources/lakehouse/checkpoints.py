"""Checkpoints: numbers by name that a commit stores with its rows, as Delta's application transactions.

This file lists every kind of checkpoint. A checkpoint named as a source is the position up to which it was read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from resources.lakehouse.files import file_system

if TYPE_CHECKING:
    from resources.lakehouse.reading import LakehouseReader

Checkpoints = Mapping[str, int]


@dataclass(frozen=True)
class CheckpointKind:
    """The checkpoints whose names share a prefix."""

    prefix: str

    def name(self, *parts: str) -> str:
        """Return the name of the checkpoint of a day, a source or another table."""
        return ":".join((self.prefix, *parts))

    def matching(self, checkpoints: Checkpoints, *parts: str) -> dict[str, int]:
        """Return the checkpoints of this kind by the rest of their names, after the prefix and some parts."""
        prefix = f"{self.name(*parts)}:"
        return {name.removeprefix(prefix): number for name, number in checkpoints.items() if name.startswith(prefix)}


# By day: version at which a batch last changed the day.
CHANGED = CheckpointKind("changed")
# By day: version at which the day became stale because a looked-up row had changed.
INVALIDATED = CheckpointKind("due")
# By looked-up table: its version up to which all days were checked for changed look-ups.
LOOKUP_CHECKED = CheckpointKind("checked")
# By looked-up table and day: its version that the day was made with.
LOOKUP_READ = CheckpointKind("read")
# By day: fingerprint of the model versions that scored the day's documents.
SCORED_BY = CheckpointKind("asked")
# Last commit of landed files: see ``resources.landing.ledger``.
LEDGER = "ledger"
# By bucket: when all of it was last listed.
LISTED = CheckpointKind("listed")
# By incremental source: number of its commits.
COMMITS = CheckpointKind("commits")
# Version of the last insert: both of two concurrent inserts write it, so one of their commits conflicts.
INSERTED = "inserts"
# By day: state of the files before the last compaction and after it: see ``staleness.file_states``.
COMPACTED_FROM = CheckpointKind("compacted_from")
COMPACTED_AS = CheckpointKind("compacted_as")


def inputs_checkpoint(made_by: str, day: str) -> str:
    """Return the name of the checkpoint that holds the fingerprint of a day's inputs, for one maker of the table."""
    return f"{made_by}:{day}"


def read_checkpoints(lakehouse: "LakehouseReader", table: str) -> dict[str, int]:
    """Return all checkpoints of a table. Reads the log once, however many checkpoints there are."""
    # By itself, because deltalake lists none: it looks up one by its name, and its history leaves them out.
    from pyarrow.fs import FileType
    from pyarrow.parquet import ParquetFile

    delta = lakehouse.open_if_exists(table)
    if delta is None:
        return {}
    checkpoints: dict[str, int] = {}
    version, snapshot = lakehouse.pinned.get(table, delta.version()), -1
    system, log = file_system(lakehouse, f"{table}/_delta_log")
    if system.get_file_info(f"{log}/_last_checkpoint").type == FileType.File:
        with system.open_input_stream(f"{log}/_last_checkpoint") as file:
            snapshot = json.loads(file.read())["version"]
        with system.open_input_file(f"{log}/{snapshot:020}.checkpoint.parquet") as file:
            transactions = pl.Series(ParquetFile(file).read(["txn"])["txn"]).drop_nulls().struct.unnest()
        checkpoints = dict(transactions.select("appId", "version").iter_rows())
    for number in range(snapshot + 1, version + 1):
        with system.open_input_stream(f"{log}/{number:020}.json") as file:
            actions = [json.loads(line) for line in file.read().splitlines()]
        transactions = [action["txn"] for action in actions if "txn" in action]
        checkpoints |= {transaction["appId"]: transaction["version"] for transaction in transactions}
    return checkpoints
