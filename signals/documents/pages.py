"""A fetch of a web page to its article: text, title, language, canonical address, date and pictures.

What HTTP said decides whether there is an article to read (see ``page_bytes``); what the page states about itself
counts where it can be true (see ``page_metadata``). What would take too much, or would have to be cut, is no article
and names the rule that it breaks.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from typing import Any

import pyarrow as pa
from lxml.html import etree

from signals.documents.languages import language_of
from signals.documents.page_bytes import charset, is_html, media_type, text_of
from signals.documents.page_metadata import (
    HEAD,
    linked_data,
    own_articles,
    published_on,
    title_of,
)
from signals.documents.page_tree import MAX_TEXT, NoArticleError, flat, parsed, shown
from signals.documents.text import content_hash, document_text, normalise
from signals.documents.urls import WEB, canonical_url, hostname, joined

MAX_IMAGES = 50
# Headings and links that are looked at, and characters of one; a text of nothing else is no article.
MAX_LABELS, MAX_LABEL = 1_000, 200

LINK_TOKENS = re.compile(r"[\s,]+")
HOME = re.compile(r"/(?:(?:index|default|home)(?:\.\w{2,5})?)?", re.IGNORECASE)
# What a library that reads strangers' pages may raise.
FAULTS = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError, OSError),
    etree.LxmlError,
)

Article = dict[str, Any]
TEXT = pa.large_string()
ARTICLE = pa.schema(
    [
        ("document_id", TEXT),
        ("site", TEXT),
        ("title", TEXT),
        ("text", TEXT),
        ("content_hash", TEXT),
        ("language", TEXT),
        ("language_score", pa.float64()),
        ("published_on", TEXT),
        ("image_urls", pa.large_list(TEXT)),
        ("failure", TEXT),
    ]
)


@dataclass(frozen=True)
class Fetch:
    """All that decides the article of one fetch of a page.

    Attributes:
        url: the address that was fetched.
        body: bytes as fetched, content coding undone.
        html: the page as text, where it was not kept as bytes.
        http_status: of the answer, where it is known.
        content_type: its header, with or without a charset.
        charset: what HTTP said of it, where it is kept by itself.
        fetched_at: when; no article was published later.
    """

    url: str
    body: bytes | None = None
    html: str | None = None
    http_status: int | None = None
    content_type: str | None = None
    charset: str | None = None
    fetched_at: datetime | None = None


FETCH = tuple(one.name for one in fields(Fetch))
NOTHING: Mapping[Fetch, Article] = {}


def articles(batches: Iterable[pa.RecordBatch], known: Mapping[Fetch, Article] = NOTHING) -> Iterator[pa.RecordBatch]:
    """Extract the article of each page; one row out for each row in, in order.

    Args:
        batches: batches with ``url``, and what else is known of the fields of ``Fetch``.
        known: articles that have been extracted already.

    Yields:
        Batches of schema ``ARTICLE``. Where there is no article, ``failure`` names the rule that the page broke
        (see ``article``) and the other columns but ``document_id`` and ``site`` are null.
    """
    for batch in batches:
        given = batch.select([name for name in FETCH if name in batch.schema.names]).to_pylist()
        fetches = [Fetch(**row) for row in given]
        rows = [known.get(fetch) or article(fetch) for fetch in fetches]
        yield pa.RecordBatch.from_pylist(rows, schema=ARTICLE)


def article(fetch: Fetch) -> Article:
    """Return one fetch's row of ``ARTICLE``; it never raises.

    ``failure`` is one of ``http_status:<code>`` (an answer that is no success), ``not_html``, ``no_article_text``
    (also if only headings and links are left), ``text_too_long``, ``too_many_elements``, ``nested_too_deep``, and
    ``unreadable:<error>`` for what the extraction fails on.
    """
    try:
        return no_article(fetch, None) | _read(fetch)
    except NoArticleError as fault:
        return no_article(fetch, str(fault))
    except FAULTS as error:
        return no_article(fetch, f"unreadable:{type(error).__name__}")


def no_article(fetch: Fetch, failure: str | None) -> Article:
    """Return the row of ``ARTICLE`` of a fetch of which only the address is known."""
    named = {"document_id": canonical_url(fetch.url), "site": hostname(fetch.url), "failure": failure}
    return dict.fromkeys(ARTICLE.names) | named


def _read(fetch: Fetch) -> Article:
    """Return what an article says.

    Raises:
        NoArticleError: there is none.
    """
    tree = parsed(_html(fetch))
    url = fetch.url.strip()
    base = joined(url, _first(tree, "//base/@href") or "")
    base = base if base.startswith(WEB) else url
    pictures = [joined(base, src) for src in tree.xpath("//meta[@property='og:image']/@content | //img/@src")]
    declared = _first(
        tree, "/html/@lang", "/html/@*[name()='xml:lang']", "//meta[@http-equiv='content-language']/@content"
    )
    canonical = _canonical(tree, url, base)
    linked = linked_data(tree)
    headings = [" ".join(one.itertext()) for one in tree.xpath("//head/title | //h1")[:10]]
    own = own_articles(linked, [url, canonical or url], headings)
    day = published_on(tree, own, fetch.fetched_at)
    tree = shown(tree)
    title = normalise(title_of(tree, own))
    text = _text(tree, title)
    language = language_of(text, declared)
    row: Article = {"document_id": canonical_url(canonical), "site": hostname(canonical)} if canonical else {}
    return row | {
        "title": title or None,
        "text": text,
        "content_hash": content_hash(document_text(title, text)),
        "language": language.code,
        "language_score": language.score,
        "published_on": day,
        "image_urls": list(dict.fromkeys(p for p in pictures if p.startswith(WEB)))[:MAX_IMAGES],
    }


def _html(fetch: Fetch) -> str:
    """Return the characters of a page, if its answer is one."""
    if fetch.http_status is not None and not 200 <= fetch.http_status < 300:
        raise NoArticleError(f"http_status:{fetch.http_status}")
    text = fetch.html
    if fetch.body is not None:
        text = text_of(fetch.body, charset(fetch.content_type) or fetch.charset)
    if not text or not is_html(text, media_type(fetch.content_type)):
        raise NoArticleError("not_html")
    return text


def _text(tree: Any, title: str) -> str:
    """Return the normalised text of the article of a page as it is shown.

    Raises:
        NoArticleError: there is none, or too much.
    """
    from trafilatura import bare_extraction

    labels = [normalise(" ".join(one.itertext())) for one in islice(tree.iter("h1", "h2", "h3", "a"), MAX_LABELS)]
    tree = flat(tree)
    # Without its second opinions, which cost half of the time, it finds the text of articles a little better.
    found: Any = bare_extraction(tree, include_comments=False, fast=True)
    text = (found.text if found is not None else None) or ""
    if len(text) > MAX_TEXT:
        raise NoArticleError("text_too_long")
    text = normalise(text)
    empty = {label.casefold() for label in labels if len(label) <= MAX_LABEL} | {title.casefold(), ""}
    if all(line.strip(" #-*").casefold() in empty for line in text.splitlines()):
        raise NoArticleError("no_article_text")
    return text


def _canonical(tree: Any, url: str, base: str) -> str | None:
    """Return the address that a page names as its own, if it can be.

    A page may name another address of its own site; it may not speak for somebody else's, and is not the site's root
    unless it was fetched from there. One that was saved without its address may name any but a root.
    """
    links = [one.get("href") for one in tree.xpath(HEAD.format("link[@rel][@href]")) if "canonical" in _relations(one)]
    for reference in (*links, *tree.xpath(HEAD.format("meta[@property='og:url']/@content"))):
        named = joined(base, reference.strip()) if reference.strip() else ""
        if not named.startswith(WEB) or not hostname(named):
            continue
        ours = hostname(named) == hostname(url) if url.startswith(WEB) else True
        if ours and (not _is_root(named) or (url.startswith(WEB) and _is_root(url))):
            return named
    return None


def _relations(link: Any) -> list[str]:
    return LINK_TOKENS.split((link.get("rel") or "").lower())


def _is_root(url: str) -> bool:
    path = canonical_url(url).partition("://")[2].partition("/")[2]
    return HOME.fullmatch(f"/{path}") is not None


def _first(tree: Any, *paths: str) -> str | None:
    return next((str(value).strip() for path in paths for value in tree.xpath(path) if str(value).strip()), None)
