import json
from datetime import UTC, datetime

import pytest
from lxml.html import document_fromstring

from signals.documents.page_metadata import linked_data, own_articles, published_on, title_of

FETCHED = datetime(2026, 11, 24, 10, tzinfo=UTC)
URL = "https://news.example/harbour"


def date_of(head="", body="", fetched_at=FETCHED):
    tree = document_fromstring(f"<html><head><title>Harbour opens</title>{head}</head><body>{body}</body></html>")
    return published_on(tree, own_articles(linked_data(tree), [URL], ["Harbour opens"]), fetched_at)


def linked(*things):
    return "".join(f"<script type='application/ld+json'>{json.dumps(thing)}</script>" for thing in things)


@pytest.mark.parametrize(
    "head",
    [
        "<meta property='article:published_time' content='2026-11-20T09:00:00Z'>",
        "<meta name='article:published_time' content='2026-11-20 09:00:00 +0100'>",
        "<meta name='DC.date.issued' content='2026-11-20'>",
        "<meta name='pubdate' content='Fri, 20 Nov 2026 09:00:00 GMT'>",
        "<meta itemprop='datePublished' content='20261120'>",
        "<meta name='citation_publication_date' content='2026/11/20'>",
        linked({"@type": "NewsArticle", "datePublished": "2026-11-20T23:30:00-05:00"}),
        linked({"@type": ["Thing", "http://schema.org/BlogPosting"], "datePublished": ["2026-11-20"]}),
        linked({"@graph": [{"@type": "WebSite"}, {"@type": "Article", "datePublished": {"@value": "2026-11-20"}}]}),
        linked({"@type": "WebPage", "datePublished": "2026-11-20"}),
        linked({"@type": "WebPage", "mainEntity": {"@type": "Recipe", "datePublished": "2026-11-20"}}),
        '<script type=\'application/ld+json\'>{\'x\', "@type": "Article", "datePublished": "2026-11-20"}</script>',
    ],
)
def test_a_date_that_is_stated_is_the_date(head):
    assert date_of(head) == "2026-11-20"


TOLD = "<time {} datetime='2026-11-20'></time>"
CLASS = "class='entry-date published'"
STORY = {"@type": "NewsArticle", "datePublished": "2026-11-20"}


@pytest.mark.parametrize(
    "body",
    [
        f"<article><h1>Harbour opens</h1>{TOLD.format('itemprop=datePublished')}</article>",
        f"<h1>Harbour opens</h1>{TOLD.format('pubdate')}",
        f"<article><h1>a</h1>{TOLD.format('pubdate')}</article><article><time pubdate datetime='2026-10-01'></article>",
        f"<h1>Harbour opens</h1>{TOLD.format(CLASS)}",
        "<div><meta itemprop='datePublished' content='2026-11-20'></div>",
    ],
)
def test_an_element_that_is_marked_as_the_date_states_it(body):
    assert date_of(body=body) == "2026-11-20"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("", "<script>window.offer={'expires': '2026-11-20', \"datePublished\": \"2026-11-20\"}</script>"),
        ("", "<footer>Copyright 2012-2024, last change 2026-11-20</footer>"),
        ("", "<p>Posted on 20 November 2026</p><p>Offer ends 2026-11-20</p>"),
        ("", f"{TOLD.format('')} is the day of the concert"),
        ("<meta property='article:expiration_time' content='2026-11-20'>", ""),
        ("<meta property='article:modified_time' content='2026-11-20'>", ""),
        ("<meta property='og:updated_time' content='2026-11-20'>", ""),
        ("", f"<aside>{TOLD.format('itemprop=datePublished')}</aside>"),
        ("", f"<footer>{TOLD.format('pubdate')}</footer>"),
        ("", "<h1>Harbour</h1>" + f"<article><h2>Other</h2>{TOLD.format('pubdate')}</article>" * 2),
        ("", f"{TOLD.format('pubdate')}<time pubdate datetime='2026-11-19'></time>"),
        (linked(STORY | {"headline": "Tornado", "url": "https://news.example/t"}), ""),
        (linked(STORY | {"headline": "Tornado"}, STORY | {"headline": "Snow"}), ""),
        (linked({"@type": "ItemList", "itemListElement": [STORY]}), ""),
        (linked({"@type": "Event", "startDate": "2026-11-20"}, {"@type": "Offer", "validThrough": "2026-11-20"}), ""),
    ],
)
def test_what_is_not_stated_of_the_article_is_no_date(head, body):
    assert date_of(head, body) is None


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-25",
        "2026-11-24T10:00:01Z",
        "2027-01-01",
        "1970-01-01",
        "0001-01-01T00:00:00Z",
        "yesterday",
        "2026",
        "20",
        "",
        "x",
    ],
)
def test_a_date_that_cannot_be_is_null(value):
    assert date_of(f"<meta property='article:published_time' content='{value}'>") is None
    assert date_of(linked({"@type": "Article", "datePublished": value})) is None


def test_the_article_among_other_stories_is_the_one_that_names_the_page():
    others = [{"@type": "NewsArticle", "headline": "Snow", "datePublished": "2026-11-22"}]
    ours = {"@type": "NewsArticle", "datePublished": "2026-11-20"}
    for named in ({"url": URL + "/#article"}, {"mainEntityOfPage": {"@id": URL}}, {"headline": "Harbour  opens"}):
        assert date_of(linked(*others, ours | named, *others)) == "2026-11-20"


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("<meta property='og:title' content='Shared'>", "Shared"),
        (linked({"@type": "NewsArticle", "headline": ["First", "Second"]}), "First"),
        (linked({"@type": "NewsArticle", "headline": {"@value": "Typed"}}), "Typed"),
        (linked({"@type": "NewsArticle", "headline": {"a": 1}}), "Harbour opens"),
        (linked({"@type": "NewsArticle", "headline": 7}), "Harbour opens"),
        (f"<meta property='og:title' content='{'a' * 2_000}'>", "Harbour opens"),
    ],
)
def test_a_title_is_a_text_whatever_the_page_states(head, title):
    tree = document_fromstring(f"<html><head>{head}<title>Harbour opens</title></head><body><p>a</p></body></html>")
    assert title_of(tree, own_articles(linked_data(tree), [URL], [])) == title
