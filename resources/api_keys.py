"""API keys: who may call the API, in a file that holds digests of the keys and no key."""

import fcntl
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError

from governance.access import role

# What a key may be used for.
Scope = Literal["signals", "classify", "openrtb", "suitability", "decisions", "sql", "privacy"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# A key shows what it is, so that scanners of code find one that leaks; 32 bytes of chance follow.
PREFIX, CHANCE = "smls_", 32


class ApiKeysError(ValueError):
    """The file of keys cannot be read, or has no such key."""


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


class ApiKeys:
    """The keys of a file, which is read again whenever it has changed. A file that is not there holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: tuple[int, ...] | None = None
        self._by_digest: dict[str, ApiKey] = {}

    def find(self, secret: str, now: datetime) -> ApiKey | None:
        """Return the key that is presented, None if it is unknown, revoked or expired.

        Raises:
            ApiKeysError: the file cannot be read; nobody is let in until it can.
        """
        self._refresh()
        found = self._by_digest.get(digest(secret))
        return found if found and (found.expires_at is None or now < found.expires_at) else None

    def all(self) -> list[ApiKey]:
        """Return every key, oldest first."""
        self._refresh()
        return list(self._by_digest.values())

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

    def _place(self, keys: list[ApiKey], key_id: str) -> int:
        for place, key in enumerate(keys):
            if key.id == key_id:
                return place
        raise ApiKeysError(f"there is no key {key_id}; `seamless serve keys list` shows those that there are")

    def _refresh(self) -> None:
        try:
            stat = self.path.stat()
            state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if state != self._state:
                keys = KEYS.validate_json(self.path.read_bytes())
                self._by_digest, self._state = {key.sha256: key for key in keys}, state
        except FileNotFoundError:
            self._by_digest, self._state = {}, None
        except (OSError, ValidationError):
            raise ApiKeysError(f"the keys in {self.path} cannot be read") from None

    @contextmanager
    def _changed(self) -> Generator[list[ApiKey]]:
        """Yield the keys to be changed, alone; what they are then replaces the file as a whole."""
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


def digest(secret: str) -> str:
    """Return the SHA-256 of a key; its chance makes salt and stretching needless."""
    return sha256(secret.encode("utf-8", "replace")).hexdigest()
