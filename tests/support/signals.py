"""Page signals as tests put them into a store and find them there."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from resources.signal_store.entries import Page, store_key
from resources.signal_store.stores import SignalStore

NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)


def record(
    url: str = "https://a.example/x", *, of: str | None = None, at: datetime = NOON, **more: Any
) -> dict[str, Any]:
    """Return what is put of a page that was fetched at an address, and may name another as its own."""
    made = {"tenant_id": "harbour", "url": url, "document_id": of or url, "fetched_at": at}
    held = {"expires_at": at + timedelta(days=30), "risk": "none", "topics": [{"id": "239", "score": 0.9}]}
    return made | held | more


def held(store: SignalStore, tenant_id: str, document_id: str) -> dict[str, Any] | None:
    """Return the signals of a page that a store holds under the page's own address."""
    (entry,) = store.get_many([store_key(tenant_id, document_id)])
    return msgspec.json.decode(entry.signals) if isinstance(entry, Page) else None


def as_stored(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as its JSON says it."""
    return msgspec.json.decode(msgspec.json.encode(record))
