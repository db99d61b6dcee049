"""A paged REST API that messages are pulled from.

``GET PULL_URL?limit=…&cursor=…`` answers ``{"items": [{…}, …], "next": "cursor" or null}``. The first request has no
cursor. A page without a next one may yet grow: its own cursor is kept, it is asked for again, and what it has given
already is known by its content.

The cursor is any string, while a Delta transaction keeps whole numbers only; so it is kept as several, of seven bytes
each. They are part of the commit that holds the rows, so no kill parts the two, and they stay where a commit's own
metadata and a row's column would not: after the log has been cleaned up, after compaction, when a page had no rows.

An API that no longer knows the cursor says so with a 4xx, and nothing is read until it does again or PULL_URL changes.
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
from resources.sources.incremental import Checkpoint, SourceError, identified

# Items of a page, and pages of one reading; what is left waits for the next.
LIMIT, PAGES = 500, 100
MAX_PAGE_BYTES = 64_000_000
MAX_CURSOR_BYTES = 2_000
ATTEMPTS = 5
TIMEOUT = urllib3.Timeout(connect=5, read=15)
# Seconds: a first wait is up to the first, and none is longer than the second.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
AT_ONCE = 7


class Pull:
    """An API, asked with a token if there is one, and only so often."""

    def __init__(self, url: str, token: SecretStr | None, *, seconds_between: float, max_bytes: int) -> None:
        self._url, self._token, self._max_bytes = url, token, max_bytes
        self._seconds_between, self._turn = seconds_between, 0.0
        self._pool = urllib3.PoolManager()

    @property
    def name(self) -> str:
        """See ``IncrementalSource``; without the query, which may hold what nobody should see."""
        parts = urlsplit(self._url)
        return f"pull:{parts.netloc}{parts.path}"

    def read(self, checkpoint: Checkpoint) -> Iterator[tuple[list[Record], dict[str, int]]]:
        """See ``IncrementalSource``: page by page."""
        return self._pages(checkpoint, ATTEMPTS)

    def peek(self, checkpoint: Checkpoint) -> list[Record]:
        """See ``IncrementalSource``: the last page known and the one after it, which may have come to be meanwhile."""
        return [record for records, _ in islice(self._pages(checkpoint, 1), 2) for record in records]

    def _pages(self, checkpoint: Checkpoint, attempts: int) -> Iterator[tuple[list[Record], dict[str, int]]]:
        cursor = unpacked(self.name, checkpoint)
        for _ in range(PAGES):
            records, following = self._page(cursor, attempts)
            if not following or following == cursor:
                yield records, {}
                return
            cursor = following
            yield records, packed(self.name, cursor)

    def _page(self, cursor: str | None, attempts: int) -> tuple[list[Record], str | None]:
        """Return the records of a page, and the cursor of the next."""
        body = self._body(cursor, attempts)
        try:
            page = json.loads(body)
            items, following = page["items"], page.get("next")
            if not isinstance(items, list) or len((following or "").encode()) > MAX_CURSOR_BYTES:
                raise TypeError
            return [identified(item, self._max_bytes) for item in items], following
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self._fault('gave no page: {"items": [...], "next": a cursor or null} is expected') from None

    def _body(self, cursor: str | None, attempts: int) -> bytes:
        """Ask for a page, and again after a wait if the API cannot give it now."""
        query = urlencode({"limit": LIMIT, **({} if cursor is None else {"cursor": cursor})})
        address = f"{self._url}{'&' if '?' in self._url else '?'}{query}"
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        for attempt in range(attempts):
            time.sleep(max(0.0, self._turn - time.monotonic()))
            self._turn = time.monotonic() + self._seconds_between
            # Between none and one that doubles, so that those who were refused together do not come back together.
            wait = random.uniform(0, min(FIRST_WAIT * 2**attempt, LONGEST_WAIT))  # noqa: S311
            try:
                # A redirect is not followed: the token is for this host.
                answer = self._pool.request(
                    "GET", address, headers=headers, timeout=TIMEOUT, retries=False, redirect=False,
                    preload_content=False,
                )  # fmt: skip
                body = answer.read(MAX_PAGE_BYTES + 1, decode_content=True)
                answer.release_conn()
                fault = f"answers {answer.status}"
                if answer.status == 200 and len(body) <= MAX_PAGE_BYTES:
                    return body
                if answer.status == 200:
                    raise self._fault(f"gave a page of more than {MAX_PAGE_BYTES} bytes")
                if answer.status < 500 and answer.status != 429:
                    raise self._fault(fault)
                wait = max(wait, _retry_after(answer.headers.get("Retry-After")))
                if wait > LONGEST_WAIT:
                    raise self._fault(f"{fault} and asks to wait {wait:.0f} seconds")
            except (HTTPError, ValueError) as error:  # as which http.client refuses a token, and shows it
                fault = f"does not answer: {type(error).__name__}"
            if attempt + 1 < attempts:
                time.sleep(wait)
        raise self._fault(f"{fault}, {attempts} times" if attempts > 1 else fault)

    def _fault(self, what: str) -> SourceError:
        return SourceError(f"the API at {urlsplit(self._url).netloc} that PULL_URL names {what}")


def packed(name: str, cursor: str) -> dict[str, int]:
    """Return the numbers that a cursor is kept as: how many bytes it has, and those."""
    body = cursor.encode()
    parts = [body[start : start + AT_ONCE] for start in range(0, len(body), AT_ONCE)]
    return {f"{name}:cursor": len(body)} | {
        f"{name}:cursor:{number}": int.from_bytes(part) for number, part in enumerate(parts)
    }


def unpacked(name: str, checkpoint: Checkpoint) -> str | None:
    """Return the cursor that is kept; None if none is."""
    left, body = checkpoint(f"{name}:cursor") or 0, b""
    while len(body) < left:
        part = checkpoint(f"{name}:cursor:{len(body) // AT_ONCE}") or 0
        body += part.to_bytes(min(AT_ONCE, left - len(body)))
    return body.decode() or None


def _retry_after(header: str | None) -> float:
    """Return how many seconds a Retry-After asks to wait; 0 if it cannot be read."""
    try:
        return urllib3.Retry().parse_retry_after(header) if header else 0.0
    except InvalidHeader:
        return 0.0
