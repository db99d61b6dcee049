"""What the signal store holds under a key: a page, another address of one, or a glance at a site's newest pages.

Every key holds the newest of what was put there. So the order of puts, and how they are split, changes nothing.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec

from governance import catalog
from governance.retention import policy
from signals.documents.addresses import addresses, site_of

# LMDB limits keys: a longer one becomes its first bytes and its digest.
MAX_KEY = 480
# Pages that a site is known by.
GLANCES = 100
# The table whose days are kept as long as the entries of these days.
TABLE = "published/signal_store"
FOREVER = 36_500


class Page(msgspec.Struct, tag="page"):
    """A page's consumer record, as JSON, and what is asked of it without reading that."""

    fetched_at: datetime
    expires_at: datetime
    signals: msgspec.Raw


class Alias(msgspec.Struct, tag="alias"):
    """An address under which a page was seen."""

    fetched_at: datetime
    document_id: str


class Glance(msgspec.Struct, array_like=True):
    """What a site is told by one of its pages."""

    fetched_at: datetime
    expires_at: datetime
    risk: str
    topics: list[str]


class Site(msgspec.Struct, tag="site"):
    """The newest pages of a site, by document_id."""

    pages: dict[str, Glance]


Entry = Page | Alias | Site
Held = MutableMapping[bytes, Entry | None]
encoded = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Entry)


@lru_cache(maxsize=1)
def kept_for() -> timedelta:
    """Return how long an entry is kept from the fetch of its page on, by the retention of its table."""
    return timedelta(days=policy().kept_days(catalog.table(TABLE)) or FOREVER)


def leaves_at(entry: Entry) -> datetime:
    """Return from when on an entry is not kept: the newest of its pages was fetched too long ago."""
    fetches = [glance.fetched_at for glance in entry.pages.values()] if isinstance(entry, Site) else [entry.fetched_at]
    return max(fetches) + kept_for()


def decoded(value: bytes | None) -> Entry | None:
    """Return the entry of a stored value."""
    return None if value is None else _decoder.decode(value)


def store_key(tenant_id: str, address: str) -> bytes:
    """Return the key of a tenant's address."""
    key = f"{tenant_id}\n{address}".encode("utf-8", "replace")
    return key if len(key) <= MAX_KEY else key[: MAX_KEY - 32] + sha256(key).digest()


def site_key(tenant_id: str, site: str) -> bytes:
    """Return the key of a tenant's glance at a site."""
    return store_key(tenant_id, f"site:{site}")


def keys_of(record: Mapping[str, Any]) -> list[bytes]:
    """Return the keys that a record changes: of the page's site, of the page, and of its other addresses."""
    tenant_id, document_id = record["tenant_id"], record["document_id"]
    names = dict.fromkeys((document_id, *addresses(document_id), *addresses(record["url"])))
    return [site_key(tenant_id, site_of(document_id)), *(store_key(tenant_id, name) for name in names)]


def put_page(held: Held, record: Mapping[str, Any]) -> bool:
    """Put a page under its keys, unless they hold newer entries; return whether its signals are now held.

    Entries of the same fetch replace each other: batch may have decided it again.

    Args:
        held: what all of its keys hold; changed in place.
        record: ``tenant_id``, ``document_id``, ``url``, ``fetched_at``, ``expires_at``, ``risk``, ``topics``, and more.
    """
    site, own, *others = keys_of(record)
    fetched_at, expires_at, document_id = record["fetched_at"], record["expires_at"], record["document_id"]
    for key in others:
        if _is_newer(fetched_at, held.get(key)):
            held[key] = Alias(fetched_at, document_id)
    topics = [topic["id"] for topic in record["topics"]]
    _put_glance(held, site, document_id, Glance(fetched_at, expires_at, record["risk"], topics))
    if not _is_newer(fetched_at, held.get(own)):
        return False
    held[own] = Page(fetched_at, expires_at, msgspec.Raw(encoded(record)))
    return True


def without(held: Mapping[bytes, Entry | None], documents: Iterable[str]) -> dict[bytes, Entry | None]:
    """Return what becomes of entries once documents are erased; None where nothing is left.

    Args:
        held: entries of one tenant.
        documents: ids of the documents.
    """
    erased, changed = set(documents), dict[bytes, Entry | None]()
    for key, entry in held.items():
        if isinstance(entry, Alias) and entry.document_id in erased:
            changed[key] = None
        elif isinstance(entry, Site) and not erased.isdisjoint(entry.pages):
            kept = {name: glance for name, glance in entry.pages.items() if name not in erased}
            changed[key] = Site(kept) if kept else None
        elif isinstance(entry, Page) and msgspec.json.decode(entry.signals)["document_id"] in erased:
            changed[key] = None
    return changed


def _put_glance(held: Held, key: bytes, document_id: str, glance: Glance) -> None:
    entry = held.get(key)
    pages = dict(entry.pages) if isinstance(entry, Site) else {}
    before = pages.get(document_id)
    if before is None or glance.fetched_at >= before.fetched_at:
        pages[document_id] = glance
        newest = sorted(pages.items(), key=lambda page: (page[1].fetched_at, page[0]), reverse=True)
        held[key] = Site(dict(newest[:GLANCES]))


def _is_newer(fetched_at: datetime, entry: Entry | None) -> bool:
    return entry is None or isinstance(entry, Site) or fetched_at >= entry.fetched_at
