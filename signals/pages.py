"""HTML as fetched to an article: its text, title, language, canonical address, date and pictures."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from signals.text import content_hash, document_text, normalise
from signals.urls import address, joined, site

# Enough for any article; what is longer is a dump, and the encoder reads the beginning.
MAX_TEXT = 200_000
MAX_IMAGES = 50
WEB = ("http://", "https://")

# Address and body of a page, and its row of ``ARTICLE``.
Page = tuple[str, bytes | None]
Article = dict[str, Any]
NOTHING: Mapping[Page, Article] = {}
TEXT = pa.large_string()
ARTICLE = pa.schema(
    [
        ("document_id", TEXT),
        ("site", TEXT),
        ("title", TEXT),
        ("text", TEXT),
        ("content_hash", TEXT),
        ("language", TEXT),
        ("published_on", TEXT),
        ("image_urls", pa.large_list(TEXT)),
        ("failure", TEXT),
    ]
)


def articles(batches: Iterable[pa.RecordBatch], known: Mapping[Page, Article] = NOTHING) -> Iterator[pa.RecordBatch]:
    """Extract the article of each page; one row out for each row in, in order.

    Args:
        batches: batches with ``url`` (string) and ``body`` (binary, HTML bytes as fetched).
        known: articles that have been extracted already.

    Yields:
        Batches of schema ``ARTICLE``. Where nothing could be extracted, ``failure`` names the rule that the
        page broke (``not_html``, ``no_article_text``) and the other columns but ``document_id`` are null.
    """
    for batch in batches:
        pairs = zip(batch["url"].to_pylist(), batch["body"].to_pylist(), strict=True)
        yield pa.RecordBatch.from_pylist([known.get(pair) or article(*pair) for pair in pairs], schema=ARTICLE)


def article(url: str, body: bytes | None) -> Article:
    """Return one page's row of ``ARTICLE``."""
    from trafilatura import bare_extraction, load_html

    row: Article = dict.fromkeys(ARTICLE.names) | {"document_id": address(url), "site": site(url)}
    tree = load_html(body or b"")
    if tree is None:
        return row | {"failure": "not_html"}
    canonical = _first(tree, "//link[@rel='canonical']/@href", "//meta[@property='og:url']/@content")
    canonical = joined(url, canonical) if canonical else ""
    canonical = canonical if canonical.startswith(WEB) else ""
    if canonical and not url.startswith(WEB):
        row |= {"document_id": address(canonical), "site": site(canonical)}
    elif canonical and site(canonical) == site(url):
        # A page may name another address of its own site; it may not speak for somebody else's.
        row["document_id"] = address(canonical)
    language = _first(tree, "/html/@lang", "//meta[@http-equiv='content-language']/@content")
    pictures = [joined(url, src) for src in tree.xpath("//meta[@property='og:image']/@content | //img/@src")]
    # Without its second opinions, which cost half of the time, it finds the text of articles a little better.
    found: Any = bare_extraction(tree, url=url, with_metadata=True, include_comments=False, fast=True)
    if found is None or not (found.text or "").strip():
        return row | {"failure": "no_article_text"}
    title = normalise(found.title)
    text = normalise(found.text[:MAX_TEXT])
    return row | {
        "title": title or None,
        "text": text,
        "content_hash": content_hash(document_text(title, text)),
        "language": re.split(r"[-_,;\s]", (language or "").strip())[0].lower() or detect_language(text),
        "published_on": found.date,
        "image_urls": list(dict.fromkeys(p for p in pictures if p.startswith(WEB)))[:MAX_IMAGES],
    }


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language, by its characters; None for an empty text."""
    from py3langid.langid import classify

    return classify(text[:1_000])[0] if text.strip() else None


def _first(tree: Any, *paths: str) -> str | None:
    return next((str(value).strip() for path in paths for value in tree.xpath(path) if str(value).strip()), None)
