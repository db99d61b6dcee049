"""The addresses under which a page may be held: the one that an asker has is often not the one that was fetched.

A page is held under the addresses that were seen, and each is held folded as well: without what only chooses how the
same page is shown (scheme, ``www``, mobile and AMP forms) and without parameters that name no page of its site.
Writers and readers fold alike, so whichever form was seen answers for the others.
"""

import re
from functools import lru_cache
from pathlib import Path

from signals.documents.domains import domains_of
from signals.documents.urls import WEB, canonical_url

# Labels of a host that choose a form of its pages.
FORMS = frozenset({"www", "m", "mobile", "amp", "touch", "wap"})
# Pairs of a query that choose one, on any site.
FORM_PAIR = re.compile(r"amp(?:_\w+)?(?:=.*)?|outputtype=amp|usqp=.*|m(?:obile)?=1", re.IGNORECASE)
AMP_CACHE = re.compile(r"https?://(?:[^/]+\.cdn\.ampproject\.org/\w/|(?:www\.)?google\.[a-z.]+/amp/)(?:s/)?(?=[^/]+\.)")
AMP_PATH = re.compile(r"^(?:/amp)+(?=/)|(?:[/.]amp(?:\.html?)?)+/?$|/(?:index|default)\.\w{3,5}$", re.IGNORECASE)


def _page_parameters() -> dict[str, frozenset[str]]:
    text = Path(__file__).with_name("page_parameters.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return {site: frozenset(parameters.split()) for site, parameters in rows}


# Of the sites that are listed, the parameters that name a page; of others, any may.
PAGE_PARAMETERS = _page_parameters()


@lru_cache(maxsize=16_384)
def addresses(url: str) -> tuple[str, ...]:
    """Return the addresses under which a page may be held, surest first: the canonical one, and that one folded.

    What is no web address has only itself. A folded address begins with ``//``, so it is never a page's own.
    """
    own = canonical_url(url)
    return (own, folded(own)) if own.startswith(WEB) else (own,)


def site_of(url: str) -> str:
    """Return the site of an address, without what chooses a form of its pages; an empty string where there is none."""
    held = addresses(url)
    return held[1].removeprefix("//").partition("/")[0] if len(held) > 1 else ""


def folded(canonical: str) -> str:
    """Return what all forms of a page's canonical address share, without a scheme."""
    address, _, query = AMP_CACHE.sub("https://", canonical).partition("://")[2].partition("?")
    host, _, path = address.partition("/")
    within = domains_of(host)
    names_page = next((PAGE_PARAMETERS[site] for site in reversed(within) if site in PAGE_PARAMETERS), None)
    pairs = sorted(pair for pair in query.split("&") if pair and _names_page(pair, names_page))
    path = AMP_PATH.sub("", f"/{path}").rstrip("/")
    return f"//{_without_forms(host, within)}{path}{'?' if pairs else ''}{'&'.join(pairs)}"


def _names_page(pair: str, listed: frozenset[str] | None) -> bool:
    return FORM_PAIR.fullmatch(pair) is None if listed is None else pair.partition("=")[0].lower() in listed


def _without_forms(host: str, within: list[str]) -> str:
    """Return a host, and its port, without the labels that choose a form; those of its root stay."""
    if not within:
        return host
    labels = host.split(".")
    own = len(labels) - within[0].count(".") - 1
    return ".".join([*(label for label in labels[:own] if label not in FORMS), *labels[own:]])
