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
from lxml.html import HTMLParser, document_fromstring, etree, tostring

from signals.documents.languages import language_of
from signals.documents.page_bytes import charset, is_html, media_type, text_of
from signals.documents.page_metadata import (
    HEAD,
    is_linked_data,
    linked_data,
    own_articles,
    published_on,
    title_of,
)
from signals.documents.text import content_hash, document_text, normalise
from signals.documents.urls import WEB, canonical_url, hostname, joined

# Budgets of a page. A longer text is a dump; more elements, or more in one, take longer than a page is worth.
MAX_TEXT = 200_000
MAX_TEXT_OF_PAGE = 5 * MAX_TEXT
MAX_ELEMENTS = 30_000
MAX_CHILDREN = 3_000
MAX_ATTRIBUTES = 200
# Elements within each other: what lies deeper is flattened, and beyond the second libxml2 reads nothing.
MAX_DEPTH = 100
MAX_READ_DEPTH = 2_000
# Characters of an attribute or a name that are looked at.
MAX_ATTRIBUTE = 4_000
MAX_IMAGES = 50
# Headings and links that are looked at, and characters of one; a text of nothing else is no article.
MAX_LABELS, MAX_LABEL = 1_000, 200

# What a browser does not show.
UNSEEN = ("script", "style", "template", "noscript", "noframes", "datalist")
NOT_SHOWN = "//*[@hidden] | //dialog[not(@open)] | //*[@style]"
NOT_SHOWN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
# Elements that the extraction drops for their names, whatever they hold.
DROPPED = frozenset({"aside", "fieldset", "figure", "footer", "form", "label", "menu", "nav", "noindex", "object"})
# A notice that asks for consent: it speaks of cookies, and of what one agrees to.
NOTICES = frozenset({"aside", "dialog", "div", "footer", "form", "header", "p", "section"})
COOKIES = re.compile(r"cookie|クッキー|куки|쿠키", re.IGNORECASE)
CONSENT = re.compile(
    r"accept|agree|consent|continu|privacy|privat|we use|our (?:web)?site|akzept|zustimm|einverstanden|datenschutz|"
    r"verwend|utilis|politique|acept|utiliza|acett|accett|informativa|utilizz|aceit|akkoord|gebruik|zgod|akcept|"
    r"souhlas|samtyck|godk|hyväks|соглас|использ|同意|동의|使用",
    re.IGNORECASE,
)
OPENS = re.compile(
    r"\W*(?:we (?:and our \S{0,20}\s?partners )?(?:use|set|value your privacy|store|process)|"
    r"(?:this|our) (?:web)?site uses|"
    r"wir (?:verwenden|nutzen|setzen)|diese (?:web)?s\w+ (?:verwendet|nutzt)|nous utilisons|ce site utilise|"
    r"utilizamos|usamos|este sitio|usiamo|utilizziamo|questo sito|wij gebruiken|deze (?:web)?site)\b"
    r"(?=.{0,200}(?:cookie|privacy|partners))",
    re.IGNORECASE | re.DOTALL,
)
MAX_NOTICE = 1_500
# Elements whose nesting says nothing about an article.
BLOCKS = re.compile(
    r"(?:</?(?:div|section|center|blockquote|table|tbody|thead|tfoot|tr|td|th|ul|ol|li|dl|dt|dd|fieldset|form|details|"
    r"figure|p)(?=[\s/>])[^<>]*>\s*)+",
    re.IGNORECASE,
)
INLINE = re.compile(
    r"</?(?:a|abbr|b|big|bdo|cite|code|del|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|strike|strong|sub|sup|"
    r"tt|u|var)(?=[\s/>])[^<>]*>",
    re.IGNORECASE,
)
# A tag with more attributes than any has: libxml2 compares each with all before it.
VALUE = r"""(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s"'<>]++))?+"""
CROWDED = re.compile(rf"""<[a-z][^\s<>/]*+(?:[\s/]++[^\s=<>"'/]++{VALUE}){{{MAX_ATTRIBUTES}}}""", re.IGNORECASE)
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# Blanks that nobody wrote as such.
GAPS = re.compile(r"(?<!\s)\s{1000,}+")
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


class NoArticleError(ValueError):
    """A fetch holds no article; the message is the rule that it breaks."""


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
    tree = _tree(_html(fetch))
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
    tree = _shown(tree)
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
    # Most of these are elements; an element has two at most.
    if text.count("<") > 4 * MAX_ELEMENTS or CROWDED.search(text):
        raise NoArticleError("too_many_elements")
    return GAPS.sub("\n", CONTROLS.sub("", text))


def _tree(html: str) -> Any:
    """Return the tree of a page, within the budgets.

    Raises:
        NoArticleError: it exceeds one of them.
    """
    parser = HTMLParser(
        encoding="utf-8",
        huge_tree=True,
        collect_ids=False,
        default_doctype=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        tree = document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    except (ValueError, etree.LxmlError) as error:
        raise NoArticleError("not_html") from error
    elements = list(tree.iter())
    if len(elements) > MAX_ELEMENTS or any(len(one) > MAX_CHILDREN for one in elements):
        raise NoArticleError("too_many_elements")
    depth = _depth(tree)
    if depth > MAX_READ_DEPTH:
        raise NoArticleError("nested_too_deep")
    for one in elements:
        for name, value in one.items():
            if len(value) > MAX_ATTRIBUTE:
                del one.attrib[name]
    return tree


def _depth(tree: Any) -> int:
    """Return how many elements lie within each other."""
    deepest = depth = 0
    for event, _ in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def _text(tree: Any, title: str) -> str:
    """Return the normalised text of the article of a page as it is shown.

    Raises:
        NoArticleError: there is none, or too much.
    """
    from trafilatura import bare_extraction

    labels = [normalise(" ".join(one.itertext())) for one in islice(tree.iter("h1", "h2", "h3", "a"), MAX_LABELS)]
    tree = _flat(tree)
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


def _shown(tree: Any) -> Any:
    """Return a tree without what a browser does not show and notices that ask for consent.

    Raises:
        NoArticleError: what is left is more than a page has.
    """
    for one in tree.xpath(NOT_SHOWN):
        style = NOT_SHOWN_STYLE.search(one.get("style") or "")
        if one.tag not in {"html", "body"} and (style or one.tag == "dialog" or "hidden" in one.attrib):
            one.tag = "template"
    for one in tree.iter("script"):
        # Some pages have their text in their linked data only.
        if not is_linked_data(one):
            one.tag = "template"
    etree.strip_elements(tree, *UNSEEN[1:], with_tail=False)
    sizes = _sizes(tree)
    whole = sizes[tree]
    if whole > MAX_TEXT_OF_PAGE:
        raise NoArticleError("text_too_long")
    for one in list(tree.iter(*NOTICES, *DROPPED)):
        if one.tag in DROPPED and (2 * sizes[one] > whole or (one.tag == "aside" and one.find(".//h1") is not None)):
            one.tag = "section"
        elif one.tag in NOTICES and sizes[one] <= MAX_NOTICE and 2 * sizes[one] < whole and _is_notice(one):
            one.tag = "template"
    etree.strip_elements(tree, "template", with_tail=False)
    return tree


def _sizes(tree: Any) -> dict[Any, int]:
    """Return how many characters of text each element of a body has; of the root, those of the body."""
    sizes = {one: len((one.text or "").strip()) for one in tree.iter()}
    sizes |= dict.fromkeys(tree.iterfind("./head"), 0)
    for one in reversed(list(sizes)):
        if one.tag not in {"head", "title"} and (parent := one.getparent()) is not None:
            sizes[parent] += sizes[one] + len((one.tail or "").strip())
    return sizes


def _is_notice(element: Any) -> bool:
    """Say whether an element asks for consent: anywhere in its words, within an article from the first of them."""
    text = " ".join(element.itertext()).strip()
    opens = OPENS.match(text) is not None
    if not ((opens or COOKIES.search(text)) and CONSENT.search(text)):
        return False
    if any(not COOKIES.search("".join(one.itertext())) for one in element.iterfind(".//h1")):
        return False
    return opens or not any(one.tag in {"article", "main"} for one in element.iterancestors())


def _flat(tree: Any) -> Any:
    """Return a tree with nothing deeper than the extraction can go, its text whole.

    Raises:
        NoArticleError: it nests what cannot be flattened.
    """
    if _depth(tree) <= MAX_DEPTH:
        return tree
    html = tostring(tree, encoding="unicode")
    flat = _tree(BLOCKS.sub("<p>", INLINE.sub("", html)))
    if _depth(flat) > MAX_DEPTH:
        raise NoArticleError("nested_too_deep")
    return flat


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
