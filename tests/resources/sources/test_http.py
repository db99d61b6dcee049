"""The pull source against a real HTTP server on loopback."""

import gzip
import itertools
import json
import logging
import socket
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from resources.sources import http
from resources.sources.http import PagedApi, cursor_checkpoints, stored_cursor
from resources.sources.incremental import SourceError

TOKEN = "t0ken-do-not-show"


class Api:
    """A server that has messages, gives them in pages, and does first what it is told to do.

    Attributes:
        items: what it has.
        faults: answers to give before any page: (status, headers, body), or None to hang up.
        asked: query and Authorization of each request, and when it came.
    """

    def __init__(self, size=3):
        self.items, self.faults, self.asked, self.size = [], [], [], size
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                api.asked.append(
                    (parse_qs(urlsplit(self.path).query), self.headers.get("Authorization"), time.monotonic())
                )
                fault = api.faults.pop(0) if api.faults else (200, {}, api.page(api.asked[-1][0]))
                if fault is None:
                    self.close_connection = True
                    return
                status, headers, body = fault
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/messages"

    def page(self, query):
        start = int(query.get("cursor", ["at-0"])[0].removeprefix("at-"))
        end = min(start + self.size, len(self.items))
        following = f"at-{end}" if end == start + self.size and end < len(self.items) else None
        return json.dumps({"items": self.items[start:end], "next": following}).encode()


@contextmanager
def serving(size=3):
    api = Api(size)
    thread = threading.Thread(target=api.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        thread.join()
        api.server.server_close()


@pytest.fixture
def api():
    with serving() as api:
        yield api


@pytest.fixture
def sleeps(monkeypatch):
    """The seconds of each wait, none of which is waited for."""
    waited = []
    monkeypatch.setattr(http.time, "sleep", waited.append)
    return waited


def source(api, **changes):
    return PagedApi(**{"url": api.url, "token": SecretStr(TOKEN), "seconds_between": 0.0, "max_bytes": 1_000} | changes)


def read(one, kept):
    """What a reading gives; ``kept`` is moved on."""
    found = []
    for records, reached in one.read(kept.get):
        kept |= reached
        found += [record.fields["n"] for record in records]
    return found


def fault(one):
    with pytest.raises(SourceError) as caught:
        read(one, {})
    assert "\n" not in str(caught.value)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    return str(caught.value).partition(" that PULL_URL names ")[2]


def test_pages_follow_one_another_and_the_last_is_asked_for_again(api):
    kept = {}
    api.items = [{"n": n} for n in range(8)]
    assert read(source(api), kept) == list(range(8))
    assert [query.get("cursor") for query, *_ in api.asked] == [None, ["at-3"], ["at-6"]]
    assert {query["limit"][0] for query, *_ in api.asked} == {str(http.LIMIT)}
    api.items += [{"n": 8}, {"n": 9}]
    assert read(source(api), kept) == [6, 7, 8, 9]
    assert read(source(api), kept) == [9]


def test_what_the_address_asks_for_is_asked_for_too_but_names_nothing(api):
    one = source(api, url=f"{api.url}?channel=news")
    read(one, {})
    assert api.asked[0][0]["channel"] == ["news"]
    assert one.name == f"pull:{api.url.removeprefix('http://')}"


def test_a_peek_is_two_pages_and_one_attempt(api, sleeps):
    api.items = [{"n": n} for n in range(9)]
    assert [record.fields["n"] for record in source(api).peek(lambda _: None)] == [0, 1, 2, 3, 4, 5]
    assert len(api.asked) == 2
    api.faults = [(503, {"Retry-After": "1"}, b"")]
    with pytest.raises(SourceError, match=r"answers 503$"):
        source(api).peek(lambda _: None)
    assert sum(sleeps) == 0


def test_a_reading_is_bounded_and_the_next_goes_on(api, monkeypatch):
    monkeypatch.setattr(http, "PAGES", 2)
    api.items, kept = [{"n": n} for n in range(9)], {}
    assert [read(source(api), kept) for _ in range(3)] == [[0, 1, 2, 3, 4, 5], [6, 7, 8], [6, 7, 8]]


def test_a_cursor_that_leads_nowhere_ends_the_reading(api):
    body = b'{"items": [{"n": 1}], "next": "same"}'
    api.faults = [(200, {}, body)] * 3
    assert read(source(api), {}) == [1, 1]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_a_cursor_is_kept_as_whole_numbers(cursor):
    kept = cursor_checkpoints("pull:x", cursor)
    assert all(0 <= number < 2**63 for number in kept.values())
    left_over = cursor_checkpoints("pull:x", "longer " * 40)
    assert stored_cursor("pull:x", (left_over | kept).get) == cursor


def test_requests_are_spaced(api):
    api.items = [{"n": n} for n in range(9)]
    api.faults = [(500, {}, b"")]
    read(source(api, seconds_between=0.5), {})
    times = [moment for *_, moment in api.asked]
    assert len(times) == 4
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.45


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("how", ["seconds", "date"])
def test_the_wait_that_is_asked_for_is_kept_to(api, sleeps, status, how):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=21), usegmt=True)
    api.items = [{"n": 1}]
    api.faults = [(status, {"Retry-After": "20" if how == "seconds" else date}, b"slow down")]
    assert read(source(api), {}) == [1]
    assert 19 <= max(sleeps) <= 21


def test_a_wait_that_is_too_long_is_not_waited_for(api, sleeps):
    api.faults = [(429, {"Retry-After": "900"}, b"")]
    assert fault(source(api)) == "answers 429 and asks to wait 900 seconds"
    assert sum(sleeps) == 0


def test_a_retry_after_that_cannot_be_read_is_a_wait_like_any(api, sleeps):
    api.items = [{"n": 1}]
    api.faults = [(429, {"Retry-After": "soon"}, b"")]
    assert read(source(api), {}) == [1]
    assert 0 <= sum(sleeps) <= http.FIRST_WAIT


def test_what_may_pass_is_tried_again_with_waits_that_double_and_differ(api, sleeps, monkeypatch):
    tops = []
    monkeypatch.setattr(http.random, "uniform", lambda low, high: tops.append((low, high)) or high)
    api.items = [{"n": 1}]
    api.faults = [(500, {}, b""), None, (502, {}, b""), (200, {"Content-Length": "50"}, b'{"items": [')]
    monkeypatch.setattr(http, "TIMEOUT", urllib3.Timeout(connect=1, read=0.3))
    assert read(source(api), {}) == [1]
    assert [wait for wait in sleeps if wait] == [1, 2, 4, 8]
    assert tops == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16)]


@pytest.mark.usefixtures("sleeps")
def test_it_is_not_tried_for_ever(api):
    api.faults = [(500, {}, b"")] * 9
    assert fault(source(api)) == f"answers 500, {http.ATTEMPTS} times"
    assert len(api.asked) == http.ATTEMPTS


@pytest.mark.usefixtures("sleeps")
def test_no_server_is_one_line():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        one = PagedApi(url, SecretStr(TOKEN), seconds_between=0, max_bytes=100)
        assert fault(one).startswith("does not answer: NewConnectionError")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 204, 302])
def test_a_no_is_one_line_and_not_asked_again(api, status):
    api.faults = [(status, {"Location": "http://127.0.0.1:1/elsewhere"}, b"")]
    assert fault(source(api)) == f"answers {status}"
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login</html>",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"items": {}}',
        b'{"items": [], "next": 5}',
        b'{"items": [], "next": ["a"]}',
        b'{"items": [], "next": "\\ud800"}',
        b'{"items": [], "next": "' + b"x" * 3_000 + b'"}',
        b"[" * 100_000,
        b'{"items": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    ],
)
def test_what_is_no_page_is_one_line(api, body):
    api.faults = [(200, {}, body)]
    assert fault(source(api)).startswith("gave no page: ")


def test_a_page_that_is_too_large_is_not_read_whole(api, monkeypatch):
    monkeypatch.setattr(http, "MAX_PAGE_BYTES", 1_000)
    api.faults = [(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 1_000_000))]
    assert fault(source(api)) == "gave a page of more than 1000 bytes"


def test_items_that_are_no_message_are_records_too(api):
    api.items = [{"n": 1}, "text", [1], {"n": "x" * 2_000}, {"n": float("nan")}]
    api.size = 9
    ((records, _),) = source(api).read(lambda _: None)
    assert [record.broken for record in records] == [None, "not_an_object", "not_an_object", "too_large", None]
    assert records[1].raw == '"text"'


@pytest.mark.usefixtures("sleeps")
def test_the_token_is_sent_and_shown_nowhere(api, caplog):
    caplog.set_level(logging.DEBUG)
    read(source(api), {})
    assert api.asked[0][1] == f"Bearer {TOKEN}"
    api.faults = [(500, {}, b""), None]
    read(source(api), {})
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(vars(source(api)))
    fault(source(api, token=SecretStr(f"{TOKEN}\nHost: elsewhere")))
    fault(source(api, token=SecretStr(f"{TOKEN}\u2026")))
    read(source(api, token=None), {})
    assert api.asked[-1][1] is None
