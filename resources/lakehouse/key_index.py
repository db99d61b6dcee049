"""An in-memory index of a table's keys, so that no micro-batch of the stream scans the table."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from governance import catalog
from resources.lakehouse.changes import rows_of_new_files
from resources.lakehouse.days import days_of
from resources.lakehouse.tables import Lakehouse

# Sorted runs of hashes before they are merged into one.
MAX_RUNS = 16


class KeyIndex:
    """The 64-bit hashes of one table's keys. Keys of another writer are read from its new files."""

    def __init__(self, lakehouse: Lakehouse, table: str) -> None:
        entry = catalog.table(table)
        self.lakehouse, self.table, self.key, self._within_day = lakehouse, table, list(entry.key), entry.within_day
        self._files: set[str] = set()
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._version: int | None = None

    def stored(self, rows: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, int | None]:
        """Return the stored rows with the keys of some rows, and the table's version."""
        version = self.refresh()
        names = list(dict.fromkeys([*self.key, *columns]))
        candidates = rows.filter(self.has(rows))
        if version is None or candidates.is_empty():
            return rows.select(names).clear(), version
        stored = self.lakehouse.scan(self.table, days_of(candidates) if self._within_day else None, version)
        keys = candidates.lazy().select(self.key)
        return stored.select(names).join(keys, on=self.key, how="semi", nulls_equal=True).collect(), version

    def refresh(self) -> int | None:
        """Read the keys of files written since the last refresh; return the table's version, if it exists."""
        if not self.lakehouse.exists(self.table):
            return None
        version = self.lakehouse.version(self.table)
        if version != self._version:
            rows, files = rows_of_new_files(self.lakehouse, self.table, self._files, self.key)
            self._hashes.append(np.unique(_hashed(rows, self.key)))
            if len(self._hashes) > MAX_RUNS:
                self._hashes = [np.unique(np.concatenate(self._hashes))]
            self._files, self._version = files, version
        return version

    def has(self, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Return for each row whether the table had its key at the last refresh; hashes of two keys may collide."""
        hashes = _hashed(rows, self.key)
        is_stored = np.zeros(len(hashes), bool)
        for run in self._hashes:
            if len(run):
                is_stored |= run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] == hashes
        return is_stored


def _hashed(rows: pl.DataFrame, key: Sequence[str]) -> npt.NDArray[np.uint64]:
    return rows.select(pl.struct(key).hash()).to_series().to_numpy()
