"""The newest signals of each page, by its address: what ad decisioning looks up in microseconds."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from resources.settings import Settings

# Room that a local store may grow to; pages of it that are not used take no disk.
MAP_BYTES = 64 << 30
# Chooses what is written, given what is stored under each key that was asked for.
Choice = Callable[[list[bytes | None]], dict[bytes, bytes]]
# LMDB's keys are short; an address is known by its beginning and its digest where it is longer.
MAX_KEY = 480


class SignalStore(ABC):
    """Signals by tenant and address, with any number of writers and readers."""

    def put(self, signals: Iterable[Mapping[str, Any]]) -> int:
        """Keep signals unless the store has newer ones of the same page; return how many were kept.

        Of signals of one fetch the last that are put are kept: batch may have decided it again.

        Args:
            signals: with ``tenant_id``, ``document_id`` and ``fetched_at`` (ISO 8601, UTC).
        """
        given = newest(signals)

        def kept(stored: list[bytes | None]) -> dict[bytes, bytes]:
            return {
                key: json.dumps(body).encode()
                for (key, body), known in zip(given.items(), stored, strict=True)
                if is_newer(body, known)
            }

        return self._replace(list(given), kept) if given else 0

    def get(self, tenant_id: str, document_id: str) -> dict[str, Any] | None:
        """Return the newest signals of a page, or None."""
        return decoded(self._read(key_of(tenant_id, document_id)))

    @abstractmethod
    def close(self) -> None:
        """Leave the store."""

    @abstractmethod
    def _read(self, key: bytes) -> bytes | None: ...

    @abstractmethod
    def _replace(self, keys: list[bytes], choose: Choice) -> int:
        """Read keys and write what is then chosen, with no other writer in between; return how many were written."""


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

    def _replace(self, keys: list[bytes], choose: Choice) -> int:
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

    def _replace(self, keys: list[bytes], choose: Choice) -> int:
        chosen: dict[bytes, bytes] = {}

        def swap(pipeline: Any) -> None:
            nonlocal chosen
            chosen = choose(pipeline.mget(keys))
            pipeline.multi()
            if chosen:
                pipeline.mset(chosen)

        # Begins anew where another writer has changed a key since it was read (WATCH).
        self._redis.transaction(swap, *keys)
        return len(chosen)


def key_of(tenant_id: str, document_id: str) -> bytes:
    """Return the key of a tenant's page."""
    key = f"{tenant_id}\n{document_id}".encode("utf-8", "replace")
    return key if len(key) <= MAX_KEY else key[: MAX_KEY - 32] + sha256(key).digest()


def newest(signals: Iterable[Mapping[str, Any]]) -> dict[bytes, Mapping[str, Any]]:
    """Return the newest signals of each page by its key."""
    found: dict[bytes, Mapping[str, Any]] = {}
    for one in signals:
        key = key_of(one["tenant_id"], one["document_id"])
        if key not in found or one["fetched_at"] >= found[key]["fetched_at"]:
            found[key] = one
    return found


def is_newer(signals: Mapping[str, Any], stored: bytes | None) -> bool:
    """Say whether signals are at least as new as what is stored."""
    known = decoded(stored)
    return known is None or signals["fetched_at"] >= known["fetched_at"]


def decoded(stored: bytes | None) -> dict[str, Any] | None:
    """Return signals as they were put."""
    return None if stored is None else json.loads(stored)


def signal_store(settings: Settings) -> SignalStore:
    """Return the store that the settings name."""
    if "://" in settings.signal_store.get_secret_value():
        return RemoteStore(settings.signal_store.get_secret_value())
    return LocalStore(Path(settings.signal_store.get_secret_value()))
