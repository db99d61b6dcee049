"""How far each landed file has been read into a bronze table, as rows of a table of their own.

A reading is written to the ledger before the rows that it gave, under the number of the commit that will hold them.
The bronze table keeps that number in its commit, beside the number of the commit before. So a reading counts if its
number is the table's own or one before it: what a kill left between the two is not believed, and is read again.
"""

import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import polars as pl

from resources.lakehouse.checkpoints import LEDGER
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/landed_files"
SCHEMA = pl.Schema(
    {
        "table": pl.String,
        "file": pl.String,
        "position": pl.Int64,
        "digest": pl.Int64,
        "state": pl.Int64,
        "complete": pl.Boolean,
        "read_at": pl.Datetime("us", "UTC"),
        "commit": pl.Int64,
        "commit_before": pl.Int64,
    }
)


class Progress(NamedTuple):
    """How far a file has been read.

    Attributes:
        position: of the last record that was read.
        digest: names what the records up to there said.
        state: of the file then: see ``LandingFile``.
        complete: it was read to its end.
        read_at: when (UTC).
    """

    position: int
    digest: int
    state: int
    complete: bool
    read_at: datetime


class Ledger:
    """The files that have been read into one bronze table.

    Attributes:
        files: how far each has been read, by its name.
        commit: number of the bronze table's last commit of files; None before the first.
    """

    def __init__(self, lakehouse: Lakehouse, table: str) -> None:
        self._lakehouse, self._table = lakehouse, table
        self.commit = lakehouse.checkpoint(table, LEDGER)
        read = lakehouse.scan(TABLE).filter(pl.col("table") == table).collect() if lakehouse.exists(TABLE) else None
        self.files: dict[str, Progress] = {}
        if read is not None:
            newest = _counting(read, _ancestors(read, self.commit)).unique("file", keep="last", maintain_order=True)
            self.files = {row[0]: Progress(*row[1:]) for row in newest.select("file", *Progress._fields).iter_rows()}

    def plan(self, readings: dict[str, Progress]) -> tuple[int | None, int]:
        """Write how far files will have been read; return the number before, and the one that makes it count."""
        before, commit = self.commit, secrets.randbits(62)
        rows = [(self._table, file, *progress, commit, before) for file, progress in readings.items()]
        self._lakehouse.append_once(TABLE, pl.DataFrame(rows, SCHEMA, orient="row"), {}, {})
        return before, commit

    def settle(self, readings: dict[str, Progress], commit: int) -> None:
        """Note that a planned commit has been made."""
        self.files |= readings
        self.commit = commit


def compact(lakehouse: Lakehouse, tables: Collection[str]) -> int:
    """Leave one row of each file; return how many there are.

    What may still be committed stays: only a number that is followed by another can no longer be.
    """
    commits = {table: lakehouse.checkpoint(table, LEDGER) for table in tables}

    def compacted(rows: pl.DataFrame) -> pl.DataFrame:
        parts = []
        for table, commit in commits.items():
            of_table = rows.filter(pl.col("table") == table)
            ancestors = _ancestors(of_table, commit)
            newest = _counting(of_table, ancestors).unique("file", keep="last", maintain_order=True)
            newest = newest.with_columns(commit=pl.lit(commit, pl.Int64), commit_before=pl.lit(None, pl.Int64))
            undecided = ~pl.col("commit").is_in(ancestors) & ~pl.col("commit_before").is_in(ancestors[1:])
            parts += [newest.sort("file"), of_table.filter(undecided.fill_null(commit is None))]
        return pl.concat([rows.clear(), *parts])

    if not lakehouse.exists(TABLE):
        lakehouse.append_once(TABLE, pl.DataFrame(schema=SCHEMA), {}, {})
    return lakehouse.rewrite(TABLE, compacted)


def _ancestors(rows: pl.DataFrame, commit: int | None) -> list[int]:
    """Return a commit's number and those before it, newest first."""
    before = dict(rows.select("commit", "commit_before").unique().iter_rows())
    found = []
    while commit is not None:
        found.append(commit)
        commit = before.get(commit)
    return found


def _counting(rows: pl.DataFrame, commits: Sequence[int]) -> pl.DataFrame:
    """Return the rows of some commits, oldest first."""
    age = pl.DataFrame({"commit": commits, "age": range(len(commits))}, schema={"commit": pl.Int64, "age": pl.Int64})
    return rows.join(age, on="commit").sort("age", descending=True, maintain_order=True).drop("age")
