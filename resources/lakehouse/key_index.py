"""An index of a table's keys on this machine's disk, so that no look-up reads the table's other days.

It says on which days a key occurs, by the key's 64-bit hash. It is beside a local lakehouse, else in a folder of the
settings; whoever opens it adds the keys of files that were written since. It may name a day that a key has left.
"""

import hashlib
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import polars as pl

from governance import catalog
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from lmdb import Environment, Transaction

FOLDER = "key_indexes"
# Largest size of an index; unused pages of it take no disk.
MAP_BYTES = 64 << 30
# Files whose keys are read at a time.
FILES = 32
EPOCH = date(1970, 1, 1)
# Hashes as bytes have the order of their numbers.
BIG_ENDIAN = ">u8"
# Key of the version up to which files were read, beside the files' own.
READ_UP_TO = b"version"


@dataclass(eq=False)
class _File:
    """An open index: days by hash, and the names of the files whose keys it has."""

    environment: "Environment"
    keys: Any
    files: Any


# LMDB opens a file once a process; the last user closes it.
_OPEN: WeakValueDictionary[Path, _File] = WeakValueDictionary()
_OPENING = threading.Lock()


class KeyIndex:
    """The days of one table's keys. Any number of processes may use it at once."""

    def __init__(self, lakehouse: Lakehouse, table: str, key: Sequence[str] | None = None) -> None:
        """Name an index.

        Args:
            lakehouse: where the table is.
            table: the table, which need not exist.
            key: columns that name what is looked up; those of the catalog if None.
        """
        entry = catalog.table(table)
        self.lakehouse, self.table, self.key = lakehouse, table, list(key or entry.key)
        self._within_day = key is None and entry.within_day
        self._file: _File | None = None

    def stored(self, rows: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, int | None]:
        """Return the stored rows with the keys of some rows, and the table's version."""
        version = self.refresh()
        names = list(dict.fromkeys([*self.key, *columns]))
        days = self.days(rows)
        if self._within_day:
            days = [day for day in days if day in set(rows[DAY].cast(pl.String))]
        if version is None:
            return rows.select(name for name in names if name in rows.columns).clear(), None
        stored, keys = self.lakehouse.scan(self.table, days, version), rows.lazy().select(self.key).unique()
        stored = stored.select(names).join(keys, on=self.key, how="semi", nulls_equal=True)
        return stored.collect(engine="streaming"), version

    def scan(self, keys: pl.DataFrame, version: int | None = None) -> pl.LazyFrame:
        """Return lazily the rows of a version with some keys; other days are not read."""
        self.refresh()
        rows, keys = self.lakehouse.scan(self.table, self.days(keys), version), keys.select(self.key).unique()
        return rows.join(keys.lazy(), on=self.key, how="semi", nulls_equal=True)

    def days(self, rows: pl.DataFrame) -> list[str]:
        """Return the days (ISO dates) on which the keys of some rows may occur, oldest first."""
        found = {struct.unpack(">i", day)[0] for _, day in self._look_up(_hashed(rows, self.key), dupdata=True)}
        return [str(EPOCH + timedelta(day)) for day in sorted(found)]

    def has(self, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Return for each row whether the table had its key at the last refresh; hashes of two keys may collide."""
        hashes = _hashed(rows, self.key)
        found = b"".join(bytes(key) for key, _ in self._look_up(hashes))
        return np.isin(hashes, np.frombuffer(found, BIG_ENDIAN).astype(np.uint64))

    def refresh(self) -> int | None:
        """Add the keys of files written since the last refresh; return the table's version, if it exists."""
        delta = self.lakehouse.open_if_exists(self.table)
        if delta is None:
            return None
        made_by = hashlib.sha256(f"{delta.metadata().id} {pl.__version__}".encode()).hexdigest()
        names = (self.table.replace("/", "_"), *self.key, made_by[:12])
        self._file = _opened((self.lakehouse.indexes or Path(self.lakehouse.uri) / FOLDER) / "-".join(names))
        with self._file.environment.begin() as reading:
            read_up_to = reading.get(READ_UP_TO, db=self._file.files)
        if read_up_to is None or int(read_up_to) < delta.version():
            with self._file.environment.begin(write=True) as writing:
                self._add(self._file, writing, delta)
        return delta.version()

    def _look_up(self, hashes: npt.NDArray[np.uint64], *, dupdata: bool = False) -> list[tuple[bytes, bytes]]:
        if self._file is None or not len(hashes):
            return []
        with self._file.environment.begin() as reading, reading.cursor(self._file.keys) as cursor:
            return cursor.getmulti(_in_order(hashes), dupdata=dupdata)

    def _add(self, file: _File, writing: "Transaction", delta: "DeltaTable") -> None:
        """Add the keys of files that are not known yet, and forget the files that are gone."""
        of_table = pl.DataFrame(delta.get_add_actions(flatten=True))
        rows = of_table.select("path", f"partition.{DAY}").iter_rows() if of_table.height else ()
        present = {hashlib.sha256(path.encode()).digest()[:16]: (path, day) for path, day in rows}
        with writing.cursor(file.files) as cursor:
            known = {bytes(name) for name in cursor.iternext(values=False)} - {READ_UP_TO}
        new = sorted(present.keys() - known, key=lambda name: present[name][1])
        for day, of_day in groupby(new, key=lambda name: present[name][1]):
            value = struct.pack(">i", (day - EPOCH).days)
            for hashes in self._read(delta, day, [present[name][0] for name in of_day]):
                with writing.cursor(file.keys) as cursor:
                    cursor.putmulti([(key, value) for key in _in_order(hashes)])
        for name in known - present.keys():
            writing.delete(name, db=file.files)
        for name in new:
            writing.put(name, b"", db=file.files)
        writing.put(READ_UP_TO, str(delta.version()).encode(), db=file.files)

    def _read(self, delta: "DeltaTable", day: date, paths: Sequence[str]) -> Iterator[npt.NDArray[np.uint64]]:
        """Yield the hashes of the keys in some files of a day."""
        types = {name: kind for name, kind in pl.scan_delta(delta).collect_schema().items() if name != DAY}
        columns = [pl.lit(day).alias(DAY) if name == DAY else pl.col(name) for name in self.key]
        for first in range(0, len(paths), FILES):
            rows = pl.scan_parquet(
                [f"{self.lakehouse.location(self.table)}/{path}" for path in paths[first : first + FILES]],
                schema=types,
                missing_columns="insert",
                hive_partitioning=False,
                storage_options=self.lakehouse.storage or None,
            )
            yield _hashed(rows.select(columns).collect(), self.key)


def _opened(folder: Path) -> _File:
    import lmdb

    with _OPENING:
        file = _OPEN.get(folder)
        if file is None:
            folder.mkdir(parents=True, exist_ok=True)
            environment = lmdb.open(str(folder), map_size=MAP_BYTES, metasync=False, max_dbs=2)
            keys = environment.open_db(b"keys", dupsort=True, dupfixed=True)
            file = _OPEN[folder] = _File(environment, keys, environment.open_db(b"files"))
        return file


def _in_order(hashes: npt.NDArray[np.uint64]) -> list[bytes]:
    """Return distinct hashes as LMDB keeps them, in its order."""
    data = np.unique(hashes).astype(BIG_ENDIAN).tobytes()
    return [data[start : start + 8] for start in range(0, len(data), 8)]


def _hashed(rows: pl.DataFrame, key: Sequence[str]) -> npt.NDArray[np.uint64]:
    return rows.select(pl.struct(key).hash()).to_series().to_numpy()
