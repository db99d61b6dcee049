"""The client of the signal API, and of its store where that is on the same machine.

    with Client("http://127.0.0.1:8000", key) as client:
        print(client.look_up(["https://news.example/a"])[0].status)

``EmbeddedClient`` looks up in the store itself, without a server: in microseconds, as whoever may read its folder.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx2
import msgspec

from resources.signal_store.look_up import Answer, look_up
from resources.signal_store.stores import SignalStore

TIMEOUT = 10.0


class ApiError(RuntimeError):
    """The API has refused a request.

    Attributes:
        status: the HTTP status.
        retry_after: seconds after which to try again, if that may help.
    """

    def __init__(self, status: int, detail: str, retry_after: float | None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.retry_after = status, retry_after


class Classified(msgspec.Struct):
    """The answer about one document; see the shape of the same name at /docs."""

    status: str
    id: str | None = None
    reason: str | None = None
    content_hash: str | None = None
    language: str | None = None
    decisions: list[dict[str, Any]] = []
    unanswered: list[str] = []
    waited_ms: float | None = None
    signals: dict[str, Any] | None = None


class _Answers(msgspec.Struct):
    answers: list[Answer]


class _Classified(msgspec.Struct):
    answers: list[Classified]


def _look_up_body(urls: Sequence[str], *, expired: bool) -> dict[str, Any]:
    return {"urls": list(urls), "expired": expired}


def _classify_body(
    documents: Sequence[Mapping[str, Any]], tasks: Sequence[str] | None, deadline_ms: int | None
) -> dict[str, Any]:
    return {"documents": list(documents), "tasks": tasks and list(tasks), "deadline_ms": deadline_ms}


def _content(response: httpx2.Response) -> bytes:
    """Return what was answered.

    Raises:
        ApiError: it is a problem.
    """
    if response.is_success:
        return response.content
    wait = response.headers.get("Retry-After", "")
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase
    raise ApiError(response.status_code, detail, float(wait) if wait.isdigit() else None)


class Client:
    """Calls the API. Methods raise ApiError where it refuses, and httpx2's errors where it does not answer."""

    def __init__(self, address: str, key: str, timeout: float = TIMEOUT) -> None:
        self._http = httpx2.Client(base_url=address, headers=_headers(key), timeout=timeout)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()

    def look_up(self, urls: Sequence[str], *, expired: bool = True) -> list[Answer]:
        """Return what is known of up to 1,000 addresses, in order."""
        answer = self._http.post("/v1/signals/lookup", json=_look_up_body(urls, expired=expired))
        return msgspec.json.decode(_content(answer), type=_Answers).answers

    def classify(
        self,
        documents: Sequence[Mapping[str, Any]],
        tasks: Sequence[str] | None = None,
        deadline_ms: int | None = None,
    ) -> list[Classified]:
        """Return what models say of up to 64 documents, each with ``text``, ``html`` or ``image``; in order."""
        answer = self._http.post("/v1/classify", json=_classify_body(documents, tasks, deadline_ms))
        return msgspec.json.decode(_content(answer), type=_Classified).answers


class AsyncClient:
    """``Client`` for asyncio."""

    def __init__(self, address: str, key: str, timeout: float = TIMEOUT) -> None:
        self._http = httpx2.AsyncClient(base_url=address, headers=_headers(key), timeout=timeout)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def look_up(self, urls: Sequence[str], *, expired: bool = True) -> list[Answer]:
        """See ``Client.look_up``."""
        answer = await self._http.post("/v1/signals/lookup", json=_look_up_body(urls, expired=expired))
        return msgspec.json.decode(_content(answer), type=_Answers).answers

    async def classify(
        self,
        documents: Sequence[Mapping[str, Any]],
        tasks: Sequence[str] | None = None,
        deadline_ms: int | None = None,
    ) -> list[Classified]:
        """See ``Client.classify``."""
        answer = await self._http.post("/v1/classify", json=_classify_body(documents, tasks, deadline_ms))
        return msgspec.json.decode(_content(answer), type=_Classified).answers


class EmbeddedClient:
    """Looks up in a store itself, as one tenant.

    Args:
        store: see ``resources.signal_store.stores.signal_store``.
        tenant: organisation whose pages are looked up.
    """

    def __init__(self, store: SignalStore, tenant: str) -> None:
        self._store, self._tenant = store, tenant

    def look_up(self, urls: Sequence[str], *, expired: bool = True) -> list[Answer]:
        """See ``Client.look_up``; any number of addresses."""
        return look_up(self._store, self._tenant, urls, datetime.now(UTC), expired=expired)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
