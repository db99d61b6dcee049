"""Look-up: what is known of the page at an address, else of its site."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from resources.signal_store.entries import Alias, Page, Site, encoded, site_key, store_key
from resources.signal_store.shared_reads import Reads
from signals.documents.addresses import addresses, site_of
from signals.risks import LEVELS, UNKNOWN

# A page that moves is held under the address that it moved to; a chain of more moves is not followed.
MAX_MOVES = 3
SITE_TOPICS = 5
PLACES = {level: place for place, level in enumerate(LEVELS)}
Status = Literal["current", "expired", "site", "unknown"]


class Answer(msgspec.Struct, omit_defaults=True):
    """What is known of one address.

    Attributes:
        url: the address as asked.
        status: ``current`` or ``expired`` signals of the page, those of its ``site``, or ``unknown``.
        document_id: the page that is held.
        as_of: when it was fetched, UTC.
        expires_at: until when its signals hold, UTC.
        age: seconds since it was fetched.
        signals: the consumer record as JSON; of a site ``site``, ``pages``, ``risk`` and ``topics``.
        suitability: whether the page suits a profile, as JSON, where it is judged by one.
    """

    url: str
    status: Status
    document_id: str | None = None
    as_of: datetime | None = None
    expires_at: datetime | None = None
    age: int | None = None
    signals: msgspec.Raw = msgspec.Raw(b"null")
    suitability: msgspec.Raw = msgspec.Raw(b"null")


def look_up(store: Reads, tenant_id: str, urls: Sequence[str], now: datetime, *, expired: bool = True) -> list[Answer]:
    """Return what is known of each address, in order.

    Args:
        store: the signals.
        tenant_id: whose signals.
        urls: addresses as a browser shows them.
        now: the time, UTC.
        expired: whether signals that hold no more are returned, marked; else their page counts as not held.
    """
    names = [addresses(url) for url in urls]
    pages = _pages(store, tenant_id, names)
    answers = [_of_page(url, *found, now) if found else None for url, found in zip(urls, pages, strict=True)]
    missing = [place for place, one in enumerate(answers) if one is None or (one.status == "expired" and not expired)]
    sites = [site_of(urls[place]) for place in missing]
    held = store.get_many([site_key(tenant_id, site) for site in sites])
    for place, site, entry in zip(missing, sites, held, strict=True):
        answers[place] = _of_site(urls[place], site, entry, now) if isinstance(entry, Site) and site else None
    return [one or Answer(url, "unknown") for url, one in zip(urls, answers, strict=True)]


def _pages(store: Reads, tenant_id: str, names: Sequence[Sequence[str]]) -> list[tuple[str, Page] | None]:
    """Return the page that each list of names leads to, with its document_id."""
    found: list[tuple[str, Page] | None] = [None] * len(names)
    waiting = dict(enumerate(names))
    for _ in range(MAX_MOVES):
        flat = [(place, name) for place, of_place in waiting.items() for name in of_place]
        entries = store.get_many([store_key(tenant_id, name) for _, name in flat])
        waiting = {}
        for (place, name), entry in zip(flat, entries, strict=True):
            if found[place] or place in waiting:
                continue
            if isinstance(entry, Page):
                found[place] = name, entry
            elif isinstance(entry, Alias):
                waiting[place] = (entry.document_id,)
        if not waiting:
            break
    return found


def _of_page(url: str, document_id: str, page: Page, now: datetime) -> Answer:
    status: Status = "current" if now < page.expires_at else "expired"
    age = max(int((now - page.fetched_at).total_seconds()), 0)
    return Answer(url, status, document_id, page.fetched_at, page.expires_at, age, page.signals)


def _of_site(url: str, site: str, held: Site, now: datetime) -> Answer | None:
    """Return the worst risk and the commonest topics of a site's pages whose signals hold, None without any."""
    pages = [glance for glance in held.pages.values() if now < glance.expires_at]
    if not pages:
        return None
    counts = Counter(topic for glance in pages for topic in glance.topics)
    topics = [{"id": topic, "share": round(count / len(pages), 3)} for topic, count in counts.most_common(SITE_TOPICS)]
    risk = max((glance.risk for glance in pages), key=lambda level: PLACES.get(level, PLACES[UNKNOWN]))
    signals = {"site": site, "pages": len(pages), "risk": risk, "topics": topics}
    return Answer(url, "site", as_of=max(glance.fetched_at for glance in pages), signals=msgspec.Raw(encoded(signals)))
