"""A read-only view of the lakehouse in which each table's log is read once."""

from contextlib import suppress
from dataclasses import dataclass, field

from deltalake import DeltaTable

from resources.lakehouse.reading import TableMissingError
from resources.lakehouse.tables import Lakehouse


@dataclass(frozen=True)
class Snapshot(Lakehouse):
    """The tables as they were when each was first opened."""

    _opened: dict[str, DeltaTable | None] = field(default_factory=dict)
    _checkpoints: dict[str, dict[str, int]] = field(default_factory=dict)

    def open(self, table: str) -> DeltaTable:
        """Open a table as it was when it was first opened.

        Raises:
            TableMissingError: it did not exist then.
        """
        if table not in self._opened:
            self._opened[table] = None
            with suppress(TableMissingError):
                self._opened[table] = super().open(table)
        delta = self._opened[table]
        if delta is None:
            raise TableMissingError(table)
        return delta

    def exists(self, table: str) -> bool:
        """Return whether a table existed when it was first opened."""
        with suppress(TableMissingError):
            self.open(table)
        return self._opened[table] is not None

    def checkpoints(self, table: str) -> dict[str, int]:
        """Return all checkpoints of a table."""
        if table not in self._checkpoints:
            self._checkpoints[table] = super().checkpoints(table)
        return self._checkpoints[table]


def snapshot(lakehouse: Lakehouse) -> Snapshot:
    """Return a short-lived, read-only view of the lakehouse as it is now."""
    return Snapshot(lakehouse.uri, lakehouse.storage, pinned=lakehouse.pinned, indexes=lakehouse.indexes)
