"""The keys that a table holds, as a stream worker remembers them: no micro-batch looks through what is stored."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from governance import catalog
from resources.lakehouse.changes import rows_of_new_files
from resources.lakehouse.days import days_of
from resources.lakehouse.tables import Lakehouse

# Sorted runs of hashes that are kept apart before they are merged.
RUNS = 16


class KeyIndex:
    """The keys of one table by their hashes, eight bytes each; what another writer adds is read from its files."""

    def __init__(self, lakehouse: Lakehouse, table: str) -> None:
        known = catalog.table(table)
        self.lakehouse, self.table, self.key, self._within_day = lakehouse, table, list(known.key), known.within_day
        self._files: set[str] = set()
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._version: int | None = None

    def stored(self, rows: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, int | None]:
        """Return stored rows that have the key of one of some rows, with some columns, and the table's version."""
        version = self.refresh()
        names = list(dict.fromkeys([*self.key, *columns]))
        wanted = rows.filter(self.has(rows))
        if version is None or wanted.is_empty():
            return rows.select(names).clear(), version
        stored = self.lakehouse.scan(self.table, days_of(wanted) if self._within_day else None, version)
        keys = wanted.lazy().select(self.key)
        return stored.select(names).join(keys, on=self.key, how="semi", nulls_equal=True).collect(), version

    def refresh(self) -> int | None:
        """Read the keys of files that have come since the last look; return the table's version, if it exists."""
        if not self.lakehouse.exists(self.table):
            return None
        version = self.lakehouse.version(self.table)
        if version != self._version:
            rows, files = rows_of_new_files(self.lakehouse, self.table, self._files, self.key)
            self._hashes.append(np.unique(_hashed(rows, self.key)))
            if len(self._hashes) > RUNS:
                self._hashes = [np.unique(np.concatenate(self._hashes))]
            self._files, self._version = files, version
        return version

    def has(self, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Say of each row whether the table has its key, by the last look; two keys may have one hash."""
        hashes = _hashed(rows, self.key)
        found = np.zeros(len(hashes), bool)
        for run in self._hashes:
            if len(run):
                found |= run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] == hashes
        return found


def _hashed(rows: pl.DataFrame, key: Sequence[str]) -> npt.NDArray[np.uint64]:
    return rows.select(pl.struct(key).hash()).to_series().to_numpy()
