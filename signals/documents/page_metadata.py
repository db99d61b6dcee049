"""What a page states about itself: title and date of publication, each believed only where it can be true."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from signals.documents.urls import WEB, canonical_url

MAX_TITLE = 1_000
# A script of linked data that is longer says more than what the page is.
MAX_JSON_LD = 200_000
# A member of linked data whose JSON is broken elsewhere.
MEMBER = re.compile(r'"(@type|headline|datePublished|url)"\s*:\s*"([^"\\]{1,1000})"')
# Where what speaks of the page itself stands: in its head, also where markup that may not be there has ended it.
HEAD = "(//head//{0} | /html/body/{0})"
JSON_LD = "application/ld+json"

TITLES = frozenset({"citation_title", "dc.title", "dcterms.title", "parsely-title", "sailthru.title", "twitter:title"})
PUBLISHED = (
    "article:published_time",
    "article.published",
    "og:published_time",
    "og:article:published_time",
    "datepublished",
    "citation_publication_date",
    "citation_online_date",
    "dc.date.issued",
    "dcterms.issued",
    "dcterms.created",
    "dc.date.created",
    "dc.date",
    "parsely-pub-date",
    "sailthru.date",
    "pubdate",
    "publishdate",
    "publish-date",
    "publish_date",
    "publication_date",
    "date",
)
# Elements that say of a date that it is the one of publication.
DATED = (
    "//*[contains(concat(' ', @itemprop, ' '), ' datePublished ')]"
    " | //time[@pubdate]"
    " | //time[contains(concat(' ', @class, ' '), ' published ')]"
    " | //time[contains(concat(' ', @class, ' '), ' entry-date ')]"
    " | //time[contains(concat(' ', @class, ' '), ' dt-published ')]"
)
ELSEWHERE = frozenset({"aside", "nav", "footer"})
DAY = re.compile(r"(\d{4})[-/]?(\d\d?)[-/]?(\d\d?)(?!\d)")
# What systems write where nobody has said when.
PLACEHOLDERS = frozenset({date(1970, 1, 1), date(1900, 1, 1)})


def title_of(tree: Any, linked: list[dict[str, Any]]) -> str | None:
    """Return the title of a page: as shared, as its linked data states it, or as its headings show it."""
    from trafilatura.metadata import extract_title

    heads = tree.xpath("//head/meta[@content]")
    shared = [meta.get("content") for meta in heads if meta.get("property") == "og:title"]
    named = [meta.get("content") for meta in heads if (meta.get("name") or "").lower() in TITLES]
    stated = [_string(one.get("headline")) for one in linked]
    for title in (*shared, *named, *stated):
        if title and title.strip() and len(title) <= MAX_TITLE:
            return title
    found = extract_title(tree)
    return found if found and len(found) <= MAX_TITLE else None


def linked_data(tree: Any) -> list[dict[str, Any]]:
    """Return what a page's linked data (JSON-LD) says at its top, where it may speak of the page itself."""
    found: list[Any] = []
    for script in tree.iter("script"):
        if JSON_LD in (script.get("type") or "").lower() and len(script.text or "") <= MAX_JSON_LD:
            found += _parsed(script.text or "null")
    graphs = [one for top in found if isinstance(top, dict) for one in _listed(top.get("@graph"))]
    tops = [one for one in (*found, *graphs) if isinstance(one, dict)]
    return tops + [one for top in tops for one in _listed(top.get("mainEntity")) if isinstance(one, dict)]


def is_linked_data(script: Any) -> bool:
    """Say whether a script is linked data that can be read, and is no longer than that may be."""
    text = script.text or ""
    if JSON_LD not in (script.get("type") or "").lower() or len(text) > MAX_JSON_LD:
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str) -> list[Any]:
    """Return what a script of linked data holds; what can be read of it where it is broken and says each thing once."""
    try:
        return _listed(json.loads(text, strict=False))
    except RecursionError:
        return []
    except ValueError:
        members = list(dict.fromkeys(MEMBER.findall(text)))
        dates = [value for name, value in members if name == "datePublished"]
        return [dict(reversed(members))] if len(dates) == 1 else []


def own_articles(
    linked: list[dict[str, Any]], addresses: Iterable[str], headings: Iterable[str]
) -> list[dict[str, Any]]:
    """Return what a page's linked data says of its own article, and not of other stories.

    Args:
        linked: see ``linked_data``.
        addresses: under which the page is known.
        headings: its title and first heading.

    Returns:
        Those that name one of its addresses or headings; an article that names no address, if it is the only one.
    """
    articles = [one for one in linked if any(_is_article(kind) for kind in _kinds(one))]
    pages = [one for one in linked if any(kind.endswith("page") for kind in _kinds(one))]
    ours = {_place(url) for url in addresses}
    shown = {_folded(heading) for heading in headings if heading}

    def is_ours(one: dict[str, Any], others: int) -> bool:
        named = {_place(url) for url in _addresses(one)}
        headline = _folded(_string(one.get("headline")) or _string(one.get("name")) or "")
        fits = bool(headline) and any(headline in heading or heading in headline for heading in shown)
        return bool(named & ours) or fits or (not named and others == 0)

    kept = [one for one in articles if is_ours(one, len(articles) - 1)]
    return kept + [one for one in pages if is_ours(one, len(pages) - 1 + len(articles))]


def published_on(tree: Any, own: list[dict[str, Any]], fetched_at: datetime | None) -> str | None:
    """Return the day (ISO) on which a page says that its article was published.

    Args:
        tree: the page.
        own: what its linked data says of its article.
        fetched_at: when the page was fetched; a later date is not believed.

    Returns:
        The day as stated; None where the page states none, several, or one that cannot be.
    """
    stated = next((value for one in own if (value := _string(one.get("datePublished")))), None)
    value = stated or _of_head(tree) or _of_elements(tree)
    return _day(value, fetched_at) if value else None


def _of_head(tree: Any) -> str | None:
    found: dict[str, str] = {}
    for meta in tree.xpath(HEAD.format("meta[@content]")):
        for attribute in ("property", "name", "itemprop"):
            found.setdefault((meta.get(attribute) or "").strip().lower(), meta.get("content"))
    return next((found[name] for name in PUBLISHED if found.get(name, "").strip()), None)


def _of_elements(tree: Any) -> str | None:
    """Return the date that elements of the article mark as its own; None if they do not agree."""
    first = next(iter(tree.xpath("//h1")), None)
    around = set() if first is None else set(first.iterancestors("article"))
    sole = len(tree.xpath("//article")) == 1
    found = set()
    for element in tree.xpath(DATED):
        above = list(element.iterancestors())
        articles = [one for one in above if one.tag == "article"]
        if any(one.tag in ELSEWHERE for one in above) or (articles and not sole and articles[0] not in around):
            continue
        value = element.get("datetime") or element.get("content") or element.text_content()
        if value and value.strip():
            found.add(value.strip()[:100])
    return found.pop() if len(found) == 1 else None


def _day(value: str, fetched_at: datetime | None) -> str | None:
    value = value.strip()[:100]
    moment = None
    try:
        moment = datetime.fromisoformat(value)
        day = moment.date()
    except ValueError:
        try:
            found = DAY.match(value)
            day = date(*map(int, found.groups())) if found else parsedate_to_datetime(value).date()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    if day in PLACEHOLDERS or day.year < 1500:
        return None
    if fetched_at is not None:
        later = moment is not None and moment.tzinfo is not None and moment > fetched_at
        if later or day > fetched_at.date():
            return None
    return day.isoformat()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _string(value: Any) -> str | None:
    """Return the text that linked data states: the first of several, the value of one that is typed."""
    for one in _listed(value):
        plain = one.get("@value") if isinstance(one, dict) else one
        if isinstance(plain, str) and plain.strip():
            return plain
    return None


def _kinds(one: dict[str, Any]) -> Iterator[str]:
    for kind in _listed(one.get("@type")):
        if isinstance(kind, str):
            yield re.split(r"[/:#]", kind)[-1].lower()


def _is_article(kind: str) -> bool:
    return kind.endswith(("article", "posting", "review")) or kind in {"report", "recipe", "howto"}


def _addresses(one: dict[str, Any]) -> Iterator[str]:
    for name in ("url", "mainEntityOfPage", "@id"):
        for value in _listed(one.get(name)):
            url = (value.get("@id") or value.get("url")) if isinstance(value, dict) else value
            if isinstance(url, str) and url.startswith(WEB):
                yield url


def _place(url: str) -> str:
    """Return what all spellings of an address have in common, as pages spell their own."""
    return canonical_url(url).partition("://")[2].removeprefix("www.").rstrip("/").lower()


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
