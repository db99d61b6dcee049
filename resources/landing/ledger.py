"""The ledger: a table of the position up to which each landed file was read into a bronze table.

A position is written to the ledger before the rows are written to bronze, under the id of the coming bronze commit and
of the one before. The bronze commit stores its id as a checkpoint. So an entry counts if its id is the table's
checkpoint or an ancestor of it. An entry that a kill left without a bronze commit is ignored, and the file read again.
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
    """The position up to which a file was read.

    Attributes:
        position: position of the last record that was read.
        digest: digest of the records up to it.
        state: state of the file then: see ``LandingFile``.
        complete: it was read to its end.
        read_at: when it was read (UTC).
    """

    position: int
    digest: int
    state: int
    complete: bool
    read_at: datetime


class Ledger:
    """The files that were read into one bronze table.

    Attributes:
        files: progress by file name.
        commit: id of the bronze table's last commit of files; None before the first.
    """

    def __init__(self, lakehouse: Lakehouse, table: str) -> None:
        self._lakehouse, self._table = lakehouse, table
        self.commit = lakehouse.checkpoint(table, LEDGER)
        self.files: dict[str, Progress] = {}
        if lakehouse.exists(TABLE):
            entries = lakehouse.scan(TABLE).filter(pl.col("table") == table).collect()
            committed = _entries_of(entries, _ancestors(entries, self.commit))
            newest = committed.unique("file", keep="last", maintain_order=True)
            self.files = {row[0]: Progress(*row[1:]) for row in newest.select("file", *Progress._fields).iter_rows()}

    def plan(self, progress: dict[str, Progress]) -> tuple[int | None, int]:
        """Write the progress of a coming commit; return the id of the commit before, and its own."""
        before, commit = self.commit, secrets.randbits(62)
        rows = [(self._table, file, *of_file, commit, before) for file, of_file in progress.items()]
        self._lakehouse.append_once(TABLE, pl.DataFrame(rows, SCHEMA, orient="row"), {}, {})
        return before, commit

    def settle(self, progress: dict[str, Progress], commit: int) -> None:
        """Record that a planned commit was made."""
        self.files |= progress
        self.commit = commit


def compact(lakehouse: Lakehouse, tables: Collection[str]) -> int:
    """Reduce the ledger to one committed entry a file; return the table's version.

    Entries that may still be committed stay: those whose predecessor has no other successor yet.
    """
    commits = {table: lakehouse.checkpoint(table, LEDGER) for table in tables}

    def compacted(rows: pl.DataFrame) -> pl.DataFrame:
        parts = []
        for table, commit in commits.items():
            of_table = rows.filter(pl.col("table") == table)
            ancestors = _ancestors(of_table, commit)
            newest = _entries_of(of_table, ancestors).unique("file", keep="last", maintain_order=True)
            newest = newest.with_columns(commit=pl.lit(commit, pl.Int64), commit_before=pl.lit(None, pl.Int64))
            undecided = ~pl.col("commit").is_in(ancestors) & ~pl.col("commit_before").is_in(ancestors[1:])
            parts += [newest.sort("file"), of_table.filter(undecided.fill_null(commit is None))]
        return pl.concat([rows.clear(), *parts])

    if not lakehouse.exists(TABLE):
        lakehouse.append_once(TABLE, pl.DataFrame(schema=SCHEMA), {}, {})
    return lakehouse.rewrite(TABLE, compacted)


def _ancestors(rows: pl.DataFrame, commit: int | None) -> list[int]:
    """Return the ids of a commit and of those before it, newest first."""
    before = dict(rows.select("commit", "commit_before").unique().iter_rows())
    ancestors = []
    while commit is not None:
        ancestors.append(commit)
        commit = before.get(commit)
    return ancestors


def _entries_of(rows: pl.DataFrame, commits: Sequence[int]) -> pl.DataFrame:
    """Return the entries of some commits, oldest first."""
    age = pl.DataFrame({"commit": commits, "age": range(len(commits))}, schema={"commit": pl.Int64, "age": pl.Int64})
    return rows.join(age, on="commit").sort("age", descending=True, maintain_order=True).drop("age")
