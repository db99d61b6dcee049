"""Reading of the Delta tables: rows, versions, days and checkpoints."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from resources.lakehouse.checkpoints import read_checkpoints
from resources.lakehouse.days import DAY, only_days


class TableMissingError(LookupError):
    """The table does not exist yet."""

    def __init__(self, table: str) -> None:
        super().__init__(f"table {table} does not exist yet: materialise it first")


class VersionGoneError(LookupError):
    """The log no longer holds a version of a table."""

    def __init__(self, table: str, version: int) -> None:
        super().__init__(f"table {table}: version {version} is no longer kept")


@dataclass(frozen=True)
class LakehouseReader:
    """Delta tables under one folder or bucket, at ``<uri>/<layer>/<table>``; a table's name is ``layer/table``.

    Attributes:
        uri: the folder or bucket.
        storage: options of the object store.
        pinned: versions of tables to read in place of the newest: see ``pinned_to``.
    """

    uri: str
    storage: dict[str, str] = field(default_factory=dict)
    pinned: Mapping[str, int] = field(default_factory=dict)

    def location(self, table: str) -> str:
        """Return the address of a table."""
        return f"{self.uri}/{table}"

    def open(self, table: str) -> DeltaTable:
        """Open a table.

        Raises:
            TableMissingError: it does not exist. Any other error is raised as it is.
        """
        return self._open(table)

    def open_if_exists(self, table: str) -> DeltaTable | None:
        """Open a table if it exists. Reads the log once, where ``exists`` and ``open`` read it twice."""
        with suppress(TableMissingError):
            return self.open(table)
        return None

    def pinned_to(self, tables: Iterable[str]) -> Self:
        """Return a view of the lakehouse in which some tables stay at their present versions."""
        pinned = {table: self.version(table) for table in tables}
        return replace(self, pinned=pinned)

    def exists(self, table: str) -> bool:
        """Return whether a table exists."""
        return DeltaTable.is_deltatable(self.location(table), storage_options=self.storage or None)

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        return [column.name for column in self.open(table).schema().fields]

    def version(self, table: str) -> int:
        """Return the version of a table that ``scan`` reads."""
        return self.pinned[table] if table in self.pinned else self.open(table).version()

    def scan(self, table: str, days: Sequence[str] | None = None, version: int | None = None) -> pl.LazyFrame:
        """Return a table's rows lazily; only those of ``days`` (ISO dates) if given."""
        version = self.pinned.get(table) if version is None else version
        rows = pl.scan_delta(self.open(table) if version is None else self.open_version(table, version))
        return rows if days is None else rows.filter(only_days(days))

    def read(self, table: str, days: Sequence[str] | None = None) -> pl.DataFrame:
        """Return a table's rows; only those of ``days`` if given."""
        return self.scan(table, days).collect()

    def checkpoint(self, table: str, name: str) -> int | None:
        """Return one checkpoint of a table, or None: see ``resources.lakehouse.checkpoints``."""
        delta = self.open_if_exists(table)
        return None if delta is None else delta.transaction_version(name)

    def checkpoints(self, table: str) -> dict[str, int]:
        """Return all checkpoints of a table."""
        return read_checkpoints(self, table)

    def state(self, table: str) -> tuple[int, int]:
        """Return a table's version and its number of rows, from the log alone."""
        delta = self.open(table)
        return delta.version(), delta.count()

    def count(self, table: str) -> int:
        """Return a table's number of rows, from the log alone."""
        return self.open(table).count()

    def days(self, table: str) -> list[str]:
        """Return the days on which a table has rows, oldest first."""
        delta = self.open_if_exists(table)
        return [] if delta is None else sorted({str(part[DAY]) for part in delta.partitions() if DAY in part})

    def written(self, table: str) -> datetime:
        """Return when a table was last written (UTC)."""
        return datetime.fromtimestamp(self.open(table).history(1)[0]["timestamp"] / 1000, UTC)

    def _open(self, table: str) -> DeltaTable:
        try:
            return DeltaTable(self.location(table), storage_options=self.storage or None)
        except TableNotFoundError:
            raise TableMissingError(table) from None

    def open_version(self, table: str, version: int) -> DeltaTable:
        """Open a version of a table.

        Raises:
            TableMissingError: it does not exist.
            VersionGoneError: the log no longer holds that version.
        """
        delta = self._open(table)
        try:
            delta.load_as_version(version)
        except TableNotFoundError as error:
            raise VersionGoneError(table, version) from error
        return delta
