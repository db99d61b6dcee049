"""A document that a caller sends, read as batch would have read it."""

import asyncio
from hashlib import sha256

import msgspec

from resources.workers.pool import WorkerPool
from signals.documents.images import MAX_PIXELS, pixels, probe_image
from signals.documents.languages import languages_of
from signals.documents.pages import Fetch, article
from signals.documents.text import content_hash, document_text, normalise
from signals.documents.urls import canonical_url

# A text of fewer characters is read here: 3 ms at most.
SHORT = 10_000
TOO_COSTLY = "too_costly"


class Asked(msgspec.Struct, omit_defaults=True):
    """A document as it is sent; one of ``text``, ``html`` and ``image`` is given.

    Attributes:
        kind: page, message or image.
        url: its address, if it has one.
        title: of a text.
        text: plain text.
        html: a page.
        image: a picture's bytes.
    """

    kind: str
    url: str | None = None
    title: str | None = None
    text: str | None = None
    html: str | None = None
    image: bytes | None = None


class Read(msgspec.Struct, omit_defaults=True):
    """A document as models are given it, or the rule that it breaks."""

    content_hash: str = ""
    document_id: str | None = None
    title: str | None = None
    text: str | None = None
    language: str | None = None
    failure: str | None = None


def read(asked: Asked) -> Read:
    """Return a document as batch would have it."""
    if asked.html is not None:
        found = article(Fetch(asked.url or "", html=asked.html))
        named = found["document_id"] or None
        return Read(
            found["content_hash"] or "", named, found["title"], found["text"], found["language"], found["failure"]
        )
    named = canonical_url(asked.url) if asked.url else None
    if asked.image is not None:
        size = pixels(asked.image) or 0
        fault = "image_undecodable" if size <= MAX_PIXELS else f"too_many_pixels:{size}"
        failure = None if size <= MAX_PIXELS and probe_image(asked.image) else fault
        return Read(sha256(asked.image).hexdigest(), named, failure=failure)
    title, text = normalise(asked.title) or None, normalise(asked.text)
    ((language,), _) = languages_of([document_text(title, text)])
    return Read(content_hash(document_text(title, text)), named, title, text, language)


def answer(content: bytes) -> bytes:
    """Return what a document reads as, both as MessagePack."""
    try:
        return msgspec.msgpack.encode(read(msgspec.msgpack.decode(content, type=Asked)))
    except MemoryError:
        return msgspec.msgpack.encode(Read(failure=TOO_COSTLY))
    except Exception as error:  # noqa: BLE001 - one document never stops the others
        return msgspec.msgpack.encode(Read(failure=f"unreadable:{type(error).__name__}"))


WARM_UP = msgspec.msgpack.encode(
    Asked("page", "https://a.example/", html=f"<article><p>{'A first page. ' * 40}</p></article>")
)


async def read_within_budget(workers: WorkerPool, asked: Asked) -> Read:
    """Return a document as models are given it; ``failure`` names the rule that it breaks."""
    if asked.text is not None and len(asked.text) + len(asked.title or "") < SHORT:
        return read(asked)
    answered = await asyncio.wrap_future(workers.submit(msgspec.msgpack.encode(asked)))
    return Read(failure=TOO_COSTLY) if answered is None else msgspec.msgpack.decode(answered, type=Read)
