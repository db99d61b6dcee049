"""Reads of a store that is another process: what many ask for at once, or what is not there, is read once."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Protocol

from cachetools import TTLCache

from resources.signal_store.entries import Entry

# For how long a key counts as missing once it was, in seconds; and the most keys of which that is remembered.
MISSING_SECONDS, MISSING = 5.0, 65_536


class Reads(Protocol):
    """What look-up asks of a store."""

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Return the entry of each key, None where there is none."""
        ...


class SharedReads:
    """A store as the threads of one process read it.

    A page that was not known is found at the latest ``MISSING_SECONDS`` after it was put.

    Args:
        store: the store.
        clock: returns the time in seconds.
    """

    def __init__(self, store: Reads, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._lock = store, Lock()
        self._missing: TTLCache[bytes, None] = TTLCache(MISSING, MISSING_SECONDS, clock)
        self._read: dict[bytes, Future[Entry | None]] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Return the entry of each key, None where there is none or was none lately.

        Raises:
            Exception: what the store raises, to all who wait for the same read.
        """
        with self._lock:
            wanted = [key for key in dict.fromkeys(keys) if key not in self._missing]
            mine = {key: Future[Entry | None]() for key in wanted if key not in self._read}
            self._read |= mine
            answers = {key: self._read[key] for key in wanted}
        if mine:
            self._answer(mine)
        found = {key: answer.result() for key, answer in answers.items()}
        return [found.get(key) for key in keys]

    def _answer(self, mine: dict[bytes, Future[Entry | None]]) -> None:
        """Read keys for all who wait for them. Nobody waits for others before this: so no two wait for each other."""
        try:
            entries = self._store.get_many([*mine])
        except BaseException as error:
            self._forget(mine, ())
            for answer in mine.values():
                answer.set_exception(error)
            raise
        found = dict(zip(mine, entries, strict=True))
        self._forget(mine, [key for key, entry in found.items() if entry is None])
        for key, answer in mine.items():
            answer.set_result(found[key])

    def _forget(self, read: dict[bytes, Future[Entry | None]], missing: Sequence[bytes]) -> None:
        with self._lock:
            for key in read:
                del self._read[key]
            self._missing.update(dict.fromkeys(missing))
