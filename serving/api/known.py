"""What is known of addresses, as far as a caller may see it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from resources.signal_store.entries import encoded
from resources.signal_store.look_up import Answer, look_up
from serving.api.identity import Caller
from serving.api.state import ServerState


async def records(state: ServerState, caller: Caller, urls: list[str]) -> list[dict[str, Any] | None]:
    """Return the consumer records of pages as far as the caller may see them; None where none holds now."""
    found = await answers(state, caller, urls, expired=False)
    return [msgspec.json.decode(one.signals) if one.status == "current" else None for one in found]


async def answers(state: ServerState, caller: Caller, urls: list[str], *, expired: bool = True) -> list[Answer]:
    """Return what is known of addresses, as far as the caller may see it."""
    now = datetime.now(UTC)
    asked = (state.reads, caller.tenant, urls, now)
    if state.store.local:
        # A read of mapped memory takes less time than handing it to a thread.
        found = look_up(*asked, expired=expired)
    else:
        found = await asyncio.to_thread(look_up, *asked, expired=expired)
    if state.wanted is not None:
        for answer in found:
            if answer.status != "current":
                state.wanted.add(caller.tenant, answer.url, now)
    if caller.hidden:
        for answer in found:
            answer.signals = _without(answer.signals, caller.hidden)
    return found


def _without(signals: msgspec.Raw, hidden: frozenset[str]) -> msgspec.Raw:
    record: Any = msgspec.json.decode(signals)
    seen = {name: value for name, value in record.items() if name not in hidden} if record else None
    return msgspec.Raw(encoded(seen))
