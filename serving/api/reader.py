"""The process that reads what strangers send: each document in a child of its own, of bounded memory and time.

It reads frames from standard input and answers each on standard output: a length of four bytes, and MessagePack. A
document that takes too much hurts only itself: the kernel ends its child.
"""

import os
import resource
import signal
import sys
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec

from signals.documents.images import MAX_PIXELS, pixels, probe_image
from signals.documents.languages import languages_of
from signals.documents.pages import Fetch, article
from signals.documents.text import content_hash, document_text, normalise
from signals.documents.urls import canonical_url

# What one document may take beside what the process has already: bytes of memory, and seconds.
MEMORY, SECONDS = 1 << 30, 5.0
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


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame, None at the end."""
    head = stream.read(4)
    return stream.read(int.from_bytes(head, "big")) if len(head) == 4 else None


def frame(content: bytes) -> bytes:
    """Return content with its length before it."""
    return len(content).to_bytes(4, "big") + content


def main() -> None:
    """Answer frames until standard input ends; an empty one says beforehand that all is loaded."""
    # What the first document would import and load is there before the first child is made.
    read(Asked("page", "https://a.example/", html=f"<html><body><article><p>{'A first page. ' * 40}</p></article>"))
    sys.stdout.buffer.write(frame(b""))
    sys.stdout.buffer.flush()
    while (content := read_frame(sys.stdin.buffer)) is not None:
        sys.stdout.buffer.write(frame(_in_a_child(content)))
        sys.stdout.buffer.flush()


def _in_a_child(content: bytes) -> bytes:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        _bound()
        os.close(receiving)
        with os.fdopen(sending, "wb") as stream:
            stream.write(_answer(content))
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    return answer if status == 0 else msgspec.msgpack.encode(Read(failure=TOO_COSTLY))


def _bound() -> None:
    """Bound this process: beyond its seconds the kernel ends it, beyond its memory nothing is allocated."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    taken = Path("/proc/self/statm")
    if taken.exists():
        limit = int(taken.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answer(content: bytes) -> bytes:
    try:
        return msgspec.msgpack.encode(read(msgspec.msgpack.decode(content, type=Asked)))
    except MemoryError:
        return msgspec.msgpack.encode(Read(failure=TOO_COSTLY))
    except Exception as error:  # noqa: BLE001 - one document never stops the others
        return msgspec.msgpack.encode(Read(failure=f"unreadable:{type(error).__name__}"))


if __name__ == "__main__":
    main()
