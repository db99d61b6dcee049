"""Requests of persons, to be erased or given what is kept, on their way from the API to whoever carries them out."""

import os
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

Kind = Literal["erase", "export"]
NAME = re.compile(r"[0-9a-f]{32}")


class PrivacyRequest(BaseModel):
    """One request.

    Attributes:
        id: names it.
        kind: what is asked.
        tenant: organisation whose rows are meant.
        subject: id of the person; None once it is carried out.
        asked_by: who asked.
        asked_at: when (UTC).
        finished_at: when it was carried out (UTC).
        report: what was done: the report of an erasure, or the rows of an export by table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: Kind
    tenant: str
    subject: str | None
    asked_by: str
    asked_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    report: dict[str, Any] | None = None


class PrivacyRequests:
    """The requests in a folder, a file each, which nobody but the platform reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, kind: Kind, tenant: str, subject: str, asked_by: str) -> PrivacyRequest:
        """Keep a request; once this returns, neither a kill nor a loss of power loses it."""
        name, now = secrets.token_hex(16), datetime.now(UTC)
        request = PrivacyRequest(id=name, kind=kind, tenant=tenant, subject=subject, asked_by=asked_by, asked_at=now)
        self._write(request)
        return request

    def find(self, name: str, tenant: str) -> PrivacyRequest | None:
        """Return a request of an organisation; None if it has none of that id."""
        if not NAME.fullmatch(name) or not self._path(name).exists():
            return None
        request = PrivacyRequest.model_validate_json(self._path(name).read_bytes())
        return request if request.tenant == tenant else None

    def waiting(self) -> Iterator[PrivacyRequest]:
        """Yield the requests that are not carried out yet, oldest first."""
        requests = [PrivacyRequest.model_validate_json(path.read_bytes()) for path in self._folder.glob("*.json")]
        yield from sorted((one for one in requests if one.finished_at is None), key=lambda one: (one.asked_at, one.id))

    def finish(self, request: PrivacyRequest, report: dict[str, Any]) -> PrivacyRequest:
        """Note that a request was carried out, and forget whom it was about."""
        done = request.model_copy(update={"subject": None, "finished_at": datetime.now(UTC), "report": report})
        self._write(done)
        return done

    def files(self, request: PrivacyRequest) -> Path:
        """Return the folder for the files of an export."""
        return self._folder / request.id

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _write(self, request: PrivacyRequest) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        written = self._folder / f"{request.id}.new"
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(request.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._path(request.id))
