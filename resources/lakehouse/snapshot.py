"""A look at many tables: none is opened twice, though one function after the other asks about it."""

from contextlib import suppress
from dataclasses import dataclass, field

from deltalake import DeltaTable

from resources.lakehouse.tables import Lakehouse, TableMissingError


@dataclass(frozen=True)
class Snapshot(Lakehouse):
    """The tables as one look finds them: the log of each is read once, however often it is asked."""

    _opened: dict[str, DeltaTable | None] = field(default_factory=dict)
    _checkpoints: dict[str, dict[str, int]] = field(default_factory=dict)

    def open(self, table: str) -> DeltaTable:
        """Open a table, as it was when it was first asked for.

        Raises:
            TableMissingError: it did not exist.
        """
        if table not in self._opened:
            self._opened[table] = None
            with suppress(TableMissingError):
                self._opened[table] = super().open(table)
        found = self._opened[table]
        if found is None:
            raise TableMissingError(table)
        return found

    def exists(self, table: str) -> bool:
        """Say whether a table had been written when it was first asked for."""
        with suppress(TableMissingError):
            self.open(table)
        return self._opened[table] is not None

    def checkpoints(self, table: str) -> dict[str, int]:
        """Return all numbers that a table keeps, as there."""
        if table not in self._checkpoints:
            self._checkpoints[table] = super().checkpoints(table)
        return self._checkpoints[table]


def snapshot(lakehouse: Lakehouse) -> Snapshot:
    """Return the tables of a lakehouse as they are now; for reading, and for as long as it takes to look at them."""
    return Snapshot(lakehouse.uri, lakehouse.storage, pinned=lakehouse.pinned)
