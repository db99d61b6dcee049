"""The places that hold signals: a folder of this machine (LMDB), a server (Redis protocol), or a DynamoDB table."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from resources.settings import Settings
from resources.signal_store.entries import Entry, decoded, encoded, keys_of, leaves_at, put_page, store_key, without

# Largest size of a local store; unused pages of it take no disk.
MAP_BYTES = 64 << 30
# Pages that are put in one transaction, and keys that are looked through at once.
PAGES, KEYS = 500, 1_000
# A server that does not answer, such as while it restarts, is asked again for some ten seconds.
RETRIES = 16
# Returns the entries to write, None for those to delete, given the stored value of each key.
Choose = Callable[[list[bytes | None]], Mapping[bytes, Entry | None]]
T = TypeVar("T")


class SignalStore(ABC):
    """Signals by tenant and address, for any number of writers and readers.

    Attributes:
        local: a read waits for no other process.
    """

    local: ClassVar[bool]

    def put(self, signals: Iterable[Mapping[str, Any]]) -> int:
        """Store pages and their other addresses, unless newer ones are stored; return the number of pages written.

        Args:
            signals: see ``entries.put_page``.
        """
        return sum(self._put(records) for records in _batched(signals, PAGES))

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Return the entry of each key, None where there is none."""
        return [decoded(value) for value in self._read(keys)] if keys else []

    def delete(self, tenant_id: str, documents: Iterable[str]) -> int:
        """Erase pages of a tenant with all their addresses; return the number of entries that are changed or gone.

        All keys of the tenant are looked through, once for the pages and once for each further name that they had.
        """
        prefix, changed, erased = store_key(tenant_id, ""), 0, set[str]()
        while documents := set(documents) - erased:
            erased |= documents
            names = set[str]()
            for keys in _batched(self._keys(prefix), KEYS):
                gone = self._erase(keys, documents)
                names |= {key.removeprefix(prefix).decode("utf-8", "replace") for key in gone}
                changed += len(gone)
            documents = {name for name in names if not name.startswith(("//", "site:"))}
        return changed

    def purge(self, now: datetime) -> int:
        """Remove what is not kept any more; return the number of entries. A server does so by itself."""

        def choose(keys: list[bytes]) -> Choose:
            return lambda stored: {key: None for key, value in zip(keys, stored, strict=True) if _is_over(value, now)}

        every = _batched(self._keys(b""), KEYS) if self.local else ()
        return sum(len(self._replace(keys, choose(keys))) for keys in every)

    @abstractmethod
    def close(self) -> None:
        """Close the store."""

    def _put(self, records: Sequence[Mapping[str, Any]]) -> int:
        keys = list(dict.fromkeys(key for record in records for key in keys_of(record)))
        written = set[tuple[str, str]]()

        def choose(stored: list[bytes | None]) -> Mapping[bytes, Entry | None]:
            before = dict(zip(keys, map(decoded, stored), strict=True))
            held = dict(before)
            # A record counts once, also where another writer has this done again.
            written.clear()
            written.update((one["tenant_id"], one["document_id"]) for one in records if put_page(held, one))
            return {key: entry for key, entry in held.items() if entry != before[key]}

        self._replace(keys, choose)
        return len(written)

    def _erase(self, keys: Sequence[bytes], documents: set[str]) -> list[bytes]:
        def choose(stored: list[bytes | None]) -> Mapping[bytes, Entry | None]:
            return without(dict(zip(keys, map(decoded, stored), strict=True)), documents)

        return self._replace(keys, choose)

    @abstractmethod
    def _read(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    @abstractmethod
    def _replace(self, keys: Sequence[bytes], choose: Choose) -> list[bytes]:
        """Read keys and write the chosen entries in one transaction; return the keys of these."""

    @abstractmethod
    def _keys(self, prefix: bytes) -> Iterator[bytes]:
        """Yield the keys that begin with a prefix."""


class LocalStore(SignalStore):
    """A store in a folder of this machine (LMDB), safe against a kill."""

    local = True

    def __init__(self, folder: Path) -> None:
        import lmdb

        folder.mkdir(parents=True, exist_ok=True)
        self._lmdb = lmdb.open(str(folder), map_size=MAP_BYTES, metasync=False)

    def close(self) -> None:
        """Close the folder, so that this process may open it again."""
        self._lmdb.close()

    def _read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lmdb.begin() as transaction:
            return [transaction.get(key) for key in keys]

    def _replace(self, keys: Sequence[bytes], choose: Choose) -> list[bytes]:
        with self._lmdb.begin(write=True) as transaction:
            chosen = choose([transaction.get(key) for key in keys])
            for key, entry in chosen.items():
                transaction.delete(key) if entry is None else transaction.put(key, encoded(entry))
        return [*chosen]

    def _keys(self, prefix: bytes) -> Iterator[bytes]:
        after = prefix
        while True:
            with self._lmdb.begin() as transaction, transaction.cursor() as cursor:
                keys = []
                if cursor.set_range(after):
                    for key in cursor.iternext(values=False):
                        if len(keys) == KEYS or not key.startswith(prefix):
                            break
                        keys.append(key)
            if not keys:
                return
            yield from keys
            after = keys[-1] + b"\0"


class RemoteStore(SignalStore):
    """A store on a Redis-protocol server."""

    local = False

    def __init__(self, url: str) -> None:
        from redis import Redis
        from redis.backoff import EqualJitterBackoff
        from redis.retry import Retry

        self._redis = Redis.from_url(url, retry=Retry(EqualJitterBackoff(cap=1.0, base=0.02), RETRIES))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", self._redis.mget(keys))

    def _replace(self, keys: Sequence[bytes], choose: Choose) -> list[bytes]:
        chosen: Mapping[bytes, Entry | None] = {}

        def swap(pipeline: Any) -> None:
            nonlocal chosen
            chosen = choose(pipeline.mget(keys))
            pipeline.multi()
            for key, entry in chosen.items():
                pipeline.delete(key) if entry is None else pipeline.set(key, encoded(entry), exat=_expiry(entry))

        # Starts again if another writer changes a key in between (WATCH).
        self._redis.transaction(swap, *keys)
        return [*chosen]

    def _keys(self, prefix: bytes) -> Iterator[bytes]:
        escaped = b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^" else bytes([byte]) for byte in prefix)
        yield from self._redis.scan_iter(match=escaped + b"*", count=KEYS)


def _is_over(value: bytes | None, now: datetime) -> bool:
    entry = decoded(value)
    return entry is not None and leaves_at(entry) <= now


def _expiry(entry: Entry) -> datetime:
    """Return when a server removes an entry: not before a day has passed, however old its page."""
    return max(leaves_at(entry), datetime.now(UTC) + timedelta(days=1))


def _batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def signal_store(settings: Settings) -> SignalStore:
    """Return the store that the settings name.

    Raises:
        SettingsError: they do not name one that there can be.
    """
    address = settings.signal_store.get_secret_value()
    if address.startswith("dynamodb://"):
        from resources.signal_store.dynamodb import dynamodb_store

        return dynamodb_store(address, settings)
    return RemoteStore(address) if "://" in address else LocalStore(Path(address))
