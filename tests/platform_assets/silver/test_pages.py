from datetime import UTC, datetime

import polars as pl
import pytest

from platform_assets.bronze.page_fetches import SCHEMA
from platform_assets.silver import pages
from platform_assets.silver.pages import IS_IMAGE, extracted, fetches_of
from signals.documents.pages import ARTICLE, Fetch, article

STORY = (
    "The river rose above the old bridge on Tuesday, and the mayor asked everyone near the mill to leave their homes."
)
ARTICLE_HTML = f"<article><h1>Flood</h1>{f'<p>{STORY}</p>' * 4}</article>"
HTML = f"<html><head><title>Flood</title></head><body>{ARTICLE_HTML}</body></html>"


def test_each_fetch_becomes_its_article_with_where_it_came_from(bronze):
    fetch = {"url": "http://example.org/a", "fetched_at": "2026-11-09T08:00:00Z", "tenant_id": "acme", "html": HTML}
    found = extracted(bronze(SCHEMA, fetch))
    row = found.row(0, named=True)
    assert found.columns[8:] == [*ARTICLE.names[:-1], "rule"]
    assert row["normalized_url"] == "http://example.org/a"
    assert (row["url"], row["document_id"], row["tenant_id"]) == (
        "http://example.org/a",
        "http://example.org/a",
        "acme",
    )
    assert (row["fetched_at"], row["rule"]) == (datetime(2026, 11, 9, 8, tzinfo=UTC), None)
    assert (row["source"], row["position"], str(row["event_date"])) == ("pages/a.jsonl", 1, "2026-11-09")
    assert STORY in row["text"]


def test_what_is_not_given_is_filled_in(bronze):
    row = extracted(bronze(SCHEMA, {"url": "http://example.org/a", "html": HTML})).row(0, named=True)
    assert (row["tenant_id"], row["fetched_at"]) == ("default", row["received_at"])


def test_html_given_as_text_is_text_whatever_its_meta_says(bronze):
    french = "Le café était très bon à Genève, où les élèves étudiaient près du château pendant l'été."
    html = HTML.replace("<head>", "<head><meta charset='iso-8859-1'>").replace(STORY, french)
    found = extracted(bronze(SCHEMA, {"url": "http://example.org/a", "html": html}))
    assert french in found["text"].item()


def test_bytes_come_before_text(bronze):
    body = HTML.replace("river", "lake").encode()
    fetches = bronze(SCHEMA, {"url": "http://example.org/a", "html": HTML, "body": body})
    assert "lake rose" in extracted(fetches)["text"].item()


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_rows_out_are_rows_in_whatever_the_batch(bronze, monkeypatch, batch):
    monkeypatch.setattr(pages, "BATCH", batch)
    fetches = bronze(
        SCHEMA,
        {"url": "http://example.org/0", "html": HTML},
        {"url": "http://example.org/1"},
        {"url": "http://example.org/2", "html": "just words"},
        {"url": "http://example.org/3", "html": "<html><body></body></html>"},
        {"url": "http://example.org/4", "html": HTML},
    )
    found = extracted(fetches.reverse()).reverse()
    assert found["position"].to_list() == [1, 2, 3, 4, 5]
    assert found["document_id"].to_list() == [f"http://example.org/{i}" for i in range(5)]
    assert found["rule"].to_list() == [None, "not_html", "not_html", "no_article_text", None]


def test_nothing_in_nothing_out(bronze):
    found = extracted(bronze(SCHEMA))
    assert found.is_empty()
    assert found.schema["text"] == pl.String


def test_a_hostile_page_does_not_stop_the_others(bronze):
    hostile = HTML.replace("<h1>", "<img src='http://[bad/'><h1>")
    found = extracted(
        bronze(
            SCHEMA,
            {"url": "http://example.org/0", "html": HTML},
            {"url": "http://example.org/1", "html": hostile},
            {"url": "http://example.org:port/", "html": HTML},
        )
    )
    assert found.height == 3
    assert found["rule"][0] is None


def test_what_http_said_decides_and_is_told_by_json_too(bronze):
    said = [
        {"http_status": 503},
        {"http_status": 200, "content_type": "text/html; charset=utf-8"},
        {"content_type": "application/json"},
        {"content_type": "text/html", "charset": "latin-1", "content_encoding": "br"},
    ]
    fetches = bronze(SCHEMA, *({"url": f"http://example.org/{i}", "html": HTML, **one} for i, one in enumerate(said)))
    assert extracted(fetches)["rule"].to_list() == ["http_status:503", None, "not_html", None]
    assert fetches["content_encoding"].to_list() == [None, None, None, "br"]


def test_a_charset_that_http_states_is_that_of_bytes_and_not_of_text(bronze):
    greek = "Σήμερα άνοιξε στην πόλη μια νέα βιβλιοθήκη με μεγάλο αναγνωστήριο."
    html = HTML.replace(STORY, greek)
    common = {"url": "http://example.org/a", "content_type": "text/html; charset=iso-8859-7"}
    found = extracted(bronze(SCHEMA, common | {"body": html.encode("iso-8859-7")}, common | {"html": html}))
    assert [greek in text for text in found["text"]] == [True, True]


def test_no_date_is_later_than_the_fetch(bronze):
    html = HTML.replace("<head>", "<head><meta property='article:published_time' content='2026-11-09T12:00:00Z'>")
    fetch = {"url": "http://example.org/a", "html": html}
    times = [{"fetched_at": "2026-11-09T08:00:00Z"}, {"fetched_at": "2026-11-09T16:00:00Z"}, {}]
    found = extracted(bronze(SCHEMA, *(fetch | time for time in times)))
    assert found["published_on"].to_list() == [None, "2026-11-09", "2026-11-09"]


def test_a_picture_is_one_that_was_answered_as_such(bronze):
    said = [
        {"content_type": "image/png"},
        {"content_type": " Image/PNG; q=1", "http_status": 200},
        {"content_type": "image/png", "http_status": 404},
        {"content_type": "text/html"},
        {},
    ]
    fetches = bronze(SCHEMA, *({"url": f"http://example.org/{i}", "body": "x", **one} for i, one in enumerate(said)))
    assert fetches.select(IS_IMAGE).to_series().to_list() == [True, True, False, False, False]
    assert extracted(fetches.filter(~IS_IMAGE))["rule"].to_list() == ["http_status:404", "not_html", "not_html"]


def test_an_article_that_was_extracted_ahead_is_the_same(bronze):
    fetches = bronze(
        SCHEMA,
        {"url": "http://example.org/0", "html": HTML},
        {"url": "http://example.org/0", "html": HTML, "http_status": 503},
        {"url": "http://example.org/0", "html": HTML, "fetched_at": "2026-11-09T08:00:00Z"},
        {"url": "http://example.org/0.png", "body": "x", "content_type": "image/png"},
    )
    ahead = fetches_of(fetches)
    assert len(ahead) == 3
    assert all(isinstance(fetch, Fetch) for fetch in ahead)
    known = {fetch: article(fetch) | {"title": "known"} for fetch in ahead}
    assert extracted(fetches.filter(~IS_IMAGE), known)["title"].to_list() == ["known"] * 3
