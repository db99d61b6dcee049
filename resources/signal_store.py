"""The signal store: the newest signals of each page by its address, for ad decisioning to look up in microseconds."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from resources.settings import Settings

# Largest size of a local store; unused pages of it take no disk.
MAP_BYTES = 64 << 30
# Returns the values to write, given the stored value of each key.
Choose = Callable[[list[bytes | None]], dict[bytes, bytes]]
# LMDB limits keys: a longer one becomes its first bytes and its digest.
MAX_KEY = 480


class SignalStore(ABC):
    """Signals by tenant and address, for any number of writers and readers."""

    def put(self, signals: Iterable[Mapping[str, Any]]) -> int:
        """Store signals unless the store has newer ones of the same page; return the number of pages written.

        Signals of the same fetch replace each other: batch may have decided it again.

        Args:
            signals: with ``tenant_id``, ``document_id`` and ``fetched_at`` (ISO 8601, UTC).
        """
        by_key = newest(signals)

        def choose(stored: list[bytes | None]) -> dict[bytes, bytes]:
            return {
                key: json.dumps(record).encode()
                for (key, record), value in zip(by_key.items(), stored, strict=True)
                if is_newer(record, value)
            }

        return self._replace(list(by_key), choose) if by_key else 0

    def get(self, tenant_id: str, document_id: str) -> dict[str, Any] | None:
        """Return the newest signals of a page, or None."""
        return decoded(self._read(store_key(tenant_id, document_id)))

    @abstractmethod
    def close(self) -> None:
        """Close the store."""

    @abstractmethod
    def _read(self, key: bytes) -> bytes | None: ...

    @abstractmethod
    def _replace(self, keys: list[bytes], choose: Choose) -> int:
        """Read keys and write the chosen values in one transaction; return their number."""


class LocalStore(SignalStore):
    """A store in a folder of this machine (LMDB), safe against a kill."""

    def __init__(self, folder: Path) -> None:
        import lmdb

        folder.mkdir(parents=True, exist_ok=True)
        self._lmdb = lmdb.open(str(folder), map_size=MAP_BYTES, metasync=False)

    def close(self) -> None:
        """Close the folder, so that this process may open it again."""
        self._lmdb.close()

    def _read(self, key: bytes) -> bytes | None:
        with self._lmdb.begin() as transaction:
            return transaction.get(key)

    def _replace(self, keys: list[bytes], choose: Choose) -> int:
        with self._lmdb.begin(write=True) as transaction:
            chosen = choose([transaction.get(key) for key in keys])
            transaction.cursor().putmulti(chosen.items())
        return len(chosen)


class RemoteStore(SignalStore):
    """A store on a Redis-protocol server."""

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._redis = Redis.from_url(url)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _read(self, key: bytes) -> bytes | None:
        return cast("bytes | None", self._redis.get(key))

    def _replace(self, keys: list[bytes], choose: Choose) -> int:
        chosen: dict[bytes, bytes] = {}

        def swap(pipeline: Any) -> None:
            nonlocal chosen
            chosen = choose(pipeline.mget(keys))
            pipeline.multi()
            if chosen:
                pipeline.mset(chosen)

        # Starts again if another writer changes a key in between (WATCH).
        self._redis.transaction(swap, *keys)
        return len(chosen)


def store_key(tenant_id: str, document_id: str) -> bytes:
    """Return the key of a tenant's page."""
    key = f"{tenant_id}\n{document_id}".encode("utf-8", "replace")
    return key if len(key) <= MAX_KEY else key[: MAX_KEY - 32] + sha256(key).digest()


def newest(signals: Iterable[Mapping[str, Any]]) -> dict[bytes, Mapping[str, Any]]:
    """Return the newest signals of each page by its key."""
    by_key: dict[bytes, Mapping[str, Any]] = {}
    for record in signals:
        key = store_key(record["tenant_id"], record["document_id"])
        if key not in by_key or record["fetched_at"] >= by_key[key]["fetched_at"]:
            by_key[key] = record
    return by_key


def is_newer(signals: Mapping[str, Any], stored: bytes | None) -> bool:
    """Return whether signals are at least as new as a stored value."""
    before = decoded(stored)
    return before is None or signals["fetched_at"] >= before["fetched_at"]


def decoded(stored: bytes | None) -> dict[str, Any] | None:
    """Return the signals of a stored value."""
    return None if stored is None else json.loads(stored)


def signal_store(settings: Settings) -> SignalStore:
    """Return the store that the settings name."""
    if "://" in settings.signal_store.get_secret_value():
        return RemoteStore(settings.signal_store.get_secret_value())
    return LocalStore(Path(settings.signal_store.get_secret_value()))
