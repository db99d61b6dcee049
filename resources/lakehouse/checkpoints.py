"""What a table keeps beside its rows, in the commit that holds them: numbers by name, Delta's application transactions.

Every kind of name is here, with what its number means. A source's own name keeps how far the source has been read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from resources.lakehouse.files import file_system

if TYPE_CHECKING:
    from resources.lakehouse.tables import Lakehouse

Checkpoints = Mapping[str, int]


@dataclass(frozen=True)
class Kind:
    """One kind of checkpoint: those whose names begin alike."""

    prefix: str

    def name(self, *of: str) -> str:
        """Return the name of the checkpoint of a day, a file or another table."""
        return ":".join((self.prefix, *of))

    def among(self, kept: Checkpoints, *of: str) -> dict[str, int]:
        """Return the numbers of all checkpoints of this kind, by what they are of."""
        before = f"{self.name(*of)}:"
        return {name.removeprefix(before): number for name, number in kept.items() if name.startswith(before)}


# Version at which a day was last changed other than by a stream, by day.
CHANGED = Kind("changed")
# Version at which a day was marked to be made again, for a look-up would find something else, by day.
INVALIDATED = Kind("due")
# Version of a looked-up table up to which all days are known to be right, by table.
CHECKED = Kind("checked")
# Version of a looked-up table with which a day was made, by table and day.
READ = Kind("read")
# Fingerprint of the model versions that a day's documents were asked of, by day.
ASKED = Kind("asked")
# Commit up to which landed files have been read: see ``resources.landing.ledger``.
LEDGER = "ledger"
# When everything in a bucket was looked at last, by bucket.
LISTED = Kind("listed")
# Commits that an incremental source has made, by source.
COMMITS = Kind("commits")
# Versions at which rows were last inserted, and at which small files were last put together.
INSERTED, COMPACTED = "inserts", "compacted"


def made_from(by: str, day: str) -> str:
    """Return the name under which the fingerprint of a day's inputs is kept, as one maker of the table saw them."""
    return f"{by}:{day}"


def read_checkpoints(lakehouse: "Lakehouse", table: str) -> dict[str, int]:
    """Return all checkpoints of a table; deltalake gives one by its name, but none of all names.

    Reads the log once, however many there are.
    """
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
        checkpoints |= {one["txn"]["appId"]: one["txn"]["version"] for one in actions if "txn" in one}
    return checkpoints
