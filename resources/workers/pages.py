"""Articles of page fetches, extracted by a few processes: no page takes the time or the memory of the others."""

import os
from collections.abc import Iterable
from functools import cache

import msgspec

from resources.progress import work
from resources.workers.pool import WorkerPool
from signals.documents.pages import Article, Fetch, article, no_article

WARM_UP = msgspec.msgpack.encode(Fetch("https://a.example/", html=f"<article><p>{'A first page. ' * 40}</p></article>"))


def answer(content: bytes) -> bytes:
    """Return the article of a fetch, both as MessagePack."""
    # An address that lxml found is of a type of its own, derived from str.
    return msgspec.msgpack.encode(article(msgspec.msgpack.decode(content, type=Fetch)), enc_hook=str)


def extract(fetches: Iterable[Fetch]) -> dict[Fetch, Article]:
    """Return the article of each fetch; ``failure`` is ``too_costly`` where that takes more than its budget."""
    waiting = {fetch: _workers().submit(msgspec.msgpack.encode(fetch)) for fetch in fetches}
    found: dict[Fetch, Article] = {}
    with work("extract pages") as report:
        for fetch, answered in waiting.items():
            found[fetch] = _article(fetch, answered.result())
            report(len(found), len(waiting))
    return found


def _article(fetch: Fetch, answered: bytes | None) -> Article:
    return no_article(fetch, "too_costly") if answered is None else msgspec.msgpack.decode(answered)


@cache
def _workers() -> WorkerPool:
    return WorkerPool(__name__, os.cpu_count() or 1)
