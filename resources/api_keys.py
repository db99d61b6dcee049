"""API keys: who may call the API, in a file or in Postgres, which hold digests of the keys and no key."""

import fcntl
import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError

from governance.access import role
from resources.settings import Settings, SettingsError

# What a key may be used for.
Scope = Literal["signals", "classify", "openrtb", "suitability", "decisions", "sql", "privacy"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# A key shows what it is, so that scanners of code find one that leaks; 32 bytes of chance follow.
PREFIX, CHANCE = "smls_", 32


class ApiKeysError(ValueError):
    """The keys cannot be read, or there is no such key."""


class ApiKey(BaseModel):
    """One key as it is kept.

    Attributes:
        id: names the key where it is listed, logged and revoked.
        sha256: digest of the key, hexadecimal.
        tenant: organisation whose rows it reads.
        role: role that it reads as (governance/access.yaml).
        scopes: what it may be used for.
        expires_at: from when on it is refused; None for never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    sha256: str
    tenant: str
    role: str
    scopes: tuple[Scope, ...]
    expires_at: AwareDatetime | None = None


KEYS = TypeAdapter(list[ApiKey])


class ApiKeys(ABC):
    """The keys of one place. A change of them counts at once, also for the servers that run."""

    @abstractmethod
    def start(self) -> None:
        """Begin to follow what others change."""

    @abstractmethod
    def close(self) -> None:
        """Follow it no more."""

    def find(self, secret: str, now: datetime) -> ApiKey | None:
        """Return the key that is presented, None if it is unknown, revoked or expired.

        Raises:
            ApiKeysError: the keys cannot be read; nobody is let in until they can.
        """
        found = self._current().get(digest(secret))
        return found if found and (found.expires_at is None or now < found.expires_at) else None

    def all(self) -> list[ApiKey]:
        """Return every key, oldest first."""
        return [*self._current().values()]

    def add(self, tenant: str, role_name: str, scopes: tuple[Scope, ...] = SCOPES) -> tuple[ApiKey, str]:
        """Add a key; return it and its secret, which is kept nowhere.

        Raises:
            AccessDeniedError: there is no such role.
        """
        role(role_name, tenant)
        secret = f"{PREFIX}{secrets.token_urlsafe(CHANCE)}"
        key = ApiKey(id=secrets.token_hex(4), sha256=digest(secret), tenant=tenant, role=role_name, scopes=scopes)
        with self._changed() as keys:
            keys.append(key)
        return key, secret

    def expire(self, key_id: str, at: datetime) -> ApiKey:
        """Refuse a key from a time on, unless it expires before; return it as it was.

        Raises:
            ApiKeysError: there is no such key.
        """
        with self._changed() as keys:
            place = self._place(keys, key_id)
            found = keys[place]
            until = min(at, found.expires_at) if found.expires_at else at
            keys[place] = found.model_copy(update={"expires_at": until})
        return found

    def revoke(self, key_id: str) -> None:
        """Forget a key: it is refused at once.

        Raises:
            ApiKeysError: there is no such key.
        """
        with self._changed() as keys:
            del keys[self._place(keys, key_id)]

    @abstractmethod
    def _current(self) -> Mapping[str, ApiKey]:
        """Return the keys by their digests, oldest first."""

    @abstractmethod
    def _changed(self) -> AbstractContextManager[list[ApiKey]]:
        """Yield the keys to be changed, alone; what they are then is kept."""

    def _place(self, keys: list[ApiKey], key_id: str) -> int:
        for place, key in enumerate(keys):
            if key.id == key_id:
                return place
        raise ApiKeysError(f"there is no key {key_id}; `seamless serve keys list` shows those that there are")


class FileKeys(ApiKeys):
    """The keys of a file, which is read again whenever it has changed. A file that is not there holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: tuple[int, ...] | None = None
        self._by_digest: Mapping[str, ApiKey] = {}

    def start(self) -> None:
        """Do nothing: the file is looked at whenever a key is."""

    def close(self) -> None:
        """Do nothing."""

    def _current(self) -> Mapping[str, ApiKey]:
        try:
            stat = self.path.stat()
            state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if state != self._state:
                keys = KEYS.validate_json(self.path.read_bytes())
                self._by_digest, self._state = by_digest(keys), state
        except FileNotFoundError:
            self._by_digest, self._state = {}, None
        except (OSError, ValidationError):
            raise ApiKeysError(f"the keys in {self.path} cannot be read") from None
        return self._by_digest

    @contextmanager
    def _changed(self) -> Generator[list[ApiKey]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = self.all()
            yield keys
            written = self.path.with_suffix(".new")
            written.touch(mode=0o600)
            written.write_text(json.dumps(KEYS.dump_python(keys, mode="json"), indent=1), encoding="utf-8")
            written.replace(self.path)
        finally:
            os.close(lock)


def by_digest(keys: Sequence[ApiKey]) -> Mapping[str, ApiKey]:
    """Return keys by their digests."""
    return {key.sha256: key for key in keys}


def digest(secret: str) -> str:
    """Return the SHA-256 of a key; its chance makes salt and stretching needless."""
    return sha256(secret.encode("utf-8", "replace")).hexdigest()


def api_keys(settings: Settings) -> ApiKeys:
    """Return the keys that the settings name.

    Raises:
        SettingsError: they name neither a file nor a database that may hold keys.
    """
    place = settings.api_keys.get_secret_value()
    if place.startswith("postgresql://"):
        from resources.api_keys_database import DatabaseKeys

        return DatabaseKeys(place)
    if "://" in place:
        raise SettingsError("bad settings: API_KEYS: a file or postgresql://… is expected")
    return FileKeys(Path(place))
