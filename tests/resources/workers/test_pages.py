from datetime import UTC, datetime

from resources.workers import pages
from resources.workers.pool import WorkerPool
from signals.documents.pages import Fetch, article
from tests.support import greedy_worker

STORY = "<p>The river rose again and the town waited for the night to end.</p>" * 20
PAGE = f"<html lang=en><head><title>Flood</title></head><body><article>{STORY}<img src=/a.png></article>"
FETCHES = [
    Fetch("https://a.example/x?utm_source=y", html=PAGE),
    Fetch(
        "https://a.example/bytes", PAGE.encode("utf-16"), None, 200, "text/html", None, datetime(2026, 1, 2, tzinfo=UTC)
    ),
    Fetch("https://a.example/gone", html=PAGE, http_status=404),
    Fetch("https://a.example/deep", html="<div>" * 200_000 + "x"),
]


def test_a_page_is_extracted_as_in_process():
    assert pages.extract(FETCHES) == {fetch: article(fetch) for fetch in FETCHES}


def test_a_page_that_takes_more_than_its_budget_has_no_article(monkeypatch):
    lost = WorkerPool(greedy_worker.__name__, 1)
    monkeypatch.setattr(lost, "submit", lambda _, submit=lost.submit: submit(b"process"))
    monkeypatch.setattr(pages, "_workers", lambda: lost)
    (found,) = pages.extract(FETCHES[:1]).values()
    assert (found["failure"], found["site"], found["text"]) == ("too_costly", "a.example", None)
    lost.close()
