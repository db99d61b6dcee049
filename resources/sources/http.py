"""A paged REST API of messages.

``GET PULL_URL?limit=…&cursor=…`` answers ``{"items": [{…}, …], "next": "cursor" or null}``. The first request has no
cursor. The last page, which has no next one, may grow: its cursor is stored, and the page is requested again. Items
that are read again are recognised by their content.

A cursor is any string, but a checkpoint is a number: so a cursor is stored as several checkpoints, of seven bytes each.
They are part of the commit that holds the rows, so a kill cannot separate the two. Unlike a commit's metadata or a
column, they survive log clean-up and compaction, and need no rows.

An API that no longer accepts the cursor answers with a 4xx; then nothing is read until it does, or PULL_URL changes.
"""

import json
import random
import time
from collections.abc import Iterator
from itertools import islice
from urllib.parse import urlencode, urlsplit

import urllib3
from pydantic import SecretStr
from urllib3.exceptions import HTTPError, InvalidHeader

from resources.landing.records import Record
from resources.sources.incremental import Checkpoint, SourceError, content_record

# Items of a page, and pages of one read.
LIMIT, PAGES = 500, 100
MAX_PAGE_BYTES = 64_000_000
MAX_CURSOR_BYTES = 2_000
ATTEMPTS = 5
TIMEOUT = urllib3.Timeout(connect=5, read=15)
# Limits of the first wait before a retry, and of every wait, in seconds.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
CHECKPOINT_BYTES = 7


class PagedApi:
    """An API with an optional token and a limited rate of requests."""

    def __init__(self, url: str, token: SecretStr | None, *, seconds_between: float, max_bytes: int) -> None:
        self._url, self._token, self._max_bytes = url, token, max_bytes
        self._seconds_between, self._next_request = seconds_between, 0.0
        self._pool = urllib3.PoolManager()

    @property
    def name(self) -> str:
        """See ``IncrementalSource``; without the query, which may hold secrets."""
        parts = urlsplit(self._url)
        return f"pull:{parts.netloc}{parts.path}"

    def read(self, checkpoint: Checkpoint) -> Iterator[tuple[list[Record], dict[str, int]]]:
        """See ``IncrementalSource``: page by page."""
        return self._pages(checkpoint, ATTEMPTS)

    def peek(self, checkpoint: Checkpoint) -> list[Record]:
        """See ``IncrementalSource``: the last page read and the one after it."""
        return [record for records, _ in islice(self._pages(checkpoint, 1), 2) for record in records]

    def _pages(self, checkpoint: Checkpoint, attempts: int) -> Iterator[tuple[list[Record], dict[str, int]]]:
        cursor = stored_cursor(self.name, checkpoint)
        for _ in range(PAGES):
            records, following = self._page(cursor, attempts)
            if not following or following == cursor:
                yield records, {}
                return
            cursor = following
            yield records, cursor_checkpoints(self.name, cursor)

    def _page(self, cursor: str | None, attempts: int) -> tuple[list[Record], str | None]:
        """Return the records of a page, and the cursor of the next."""
        body = self._body(cursor, attempts)
        try:
            page = json.loads(body)
            items, following = page["items"], page.get("next")
            if not isinstance(items, list) or len((following or "").encode()) > MAX_CURSOR_BYTES:
                raise TypeError
            return [content_record(item, self._max_bytes) for item in items], following
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self._fault('gave no page: {"items": [...], "next": a cursor or null} is expected') from None

    def _body(self, cursor: str | None, attempts: int) -> bytes:
        """Request a page, and retry after a wait if the API is busy or fails."""
        query = urlencode({"limit": LIMIT, **({} if cursor is None else {"cursor": cursor})})
        address = f"{self._url}{'&' if '?' in self._url else '?'}{query}"
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        for attempt in range(attempts):
            time.sleep(max(0.0, self._next_request - time.monotonic()))
            self._next_request = time.monotonic() + self._seconds_between
            # Random up to a limit that doubles, so that clients refused together do not come back together.
            wait = random.uniform(0, min(FIRST_WAIT * 2**attempt, LONGEST_WAIT))  # noqa: S311
            try:
                # A redirect is not followed: the token is for this host.
                response = self._pool.request(
                    "GET", address, headers=headers, timeout=TIMEOUT, retries=False, redirect=False,
                    preload_content=False,
                )  # fmt: skip
                body = response.read(MAX_PAGE_BYTES + 1, decode_content=True)
                response.release_conn()
                fault = f"answers {response.status}"
                if response.status == 200 and len(body) <= MAX_PAGE_BYTES:
                    return body
                if response.status == 200:
                    raise self._fault(f"gave a page of more than {MAX_PAGE_BYTES} bytes")
                if response.status < 500 and response.status != 429:
                    raise self._fault(fault)
                wait = max(wait, _retry_after(response.headers.get("Retry-After")))
                if wait > LONGEST_WAIT:
                    raise self._fault(f"{fault} and asks to wait {wait:.0f} seconds")
            except (HTTPError, ValueError) as error:  # http.client's ValueError shows a token that it refuses
                fault = f"does not answer: {type(error).__name__}"
            if attempt + 1 < attempts:
                time.sleep(wait)
        raise self._fault(f"{fault}, {attempts} times" if attempts > 1 else fault)

    def _fault(self, fault: str) -> SourceError:
        return SourceError(f"the API at {urlsplit(self._url).netloc} that PULL_URL names {fault}")


def cursor_checkpoints(name: str, cursor: str) -> dict[str, int]:
    """Return the checkpoints of a cursor: its length in bytes, and the bytes."""
    body = cursor.encode()
    parts = [body[start : start + CHECKPOINT_BYTES] for start in range(0, len(body), CHECKPOINT_BYTES)]
    return {f"{name}:cursor": len(body)} | {
        f"{name}:cursor:{number}": int.from_bytes(part) for number, part in enumerate(parts)
    }


def stored_cursor(name: str, checkpoint: Checkpoint) -> str | None:
    """Return the stored cursor, or None."""
    length, body = checkpoint(f"{name}:cursor") or 0, b""
    while len(body) < length:
        part = checkpoint(f"{name}:cursor:{len(body) // CHECKPOINT_BYTES}") or 0
        body += part.to_bytes(min(CHECKPOINT_BYTES, length - len(body)))
    return body.decode() or None


def _retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header; 0 if it does not parse."""
    try:
        return urllib3.Retry().parse_retry_after(header) if header else 0.0
    except InvalidHeader:
        return 0.0
