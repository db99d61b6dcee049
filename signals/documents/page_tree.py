"""The tree of a page as a browser shows it, within the budgets of a page."""

import re
from typing import Any

from lxml.html import HTMLParser, document_fromstring, etree, tostring

from signals.documents.page_metadata import (
    is_linked_data,
)

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


class NoArticleError(ValueError):
    """A fetch holds no article; the message is the rule that it breaks."""


def parsed(html: str) -> Any:
    """Return the tree of a page, within the budgets.

    Raises:
        NoArticleError: it exceeds one of them.
    """
    # Most of these are elements; an element has two at most.
    if html.count("<") > 4 * MAX_ELEMENTS or CROWDED.search(html):
        raise NoArticleError("too_many_elements")
    return _tree(GAPS.sub("\n", CONTROLS.sub("", html)))


def shown(tree: Any) -> Any:
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


def flat(tree: Any) -> Any:
    """Return a tree with nothing deeper than the extraction can go, its text whole.

    Raises:
        NoArticleError: it nests what cannot be flattened.
    """
    if _depth(tree) <= MAX_DEPTH:
        return tree
    html = tostring(tree, encoding="unicode")
    flattened = _tree(BLOCKS.sub("<p>", INLINE.sub("", html)))
    if _depth(flattened) > MAX_DEPTH:
        raise NoArticleError("nested_too_deep")
    return flattened


def _tree(html: str) -> Any:
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
