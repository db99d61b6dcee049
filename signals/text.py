"""Text as every model sees it: one normal form, and the hash that names it.

Equal normal forms have equal hashes, so a text is encoded once however often and wherever it arrives.
"""

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable

import regex

URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
# Marks belong to the letters of many scripts, which ``\w`` does not know.
MENTION = regex.compile(r"(?<![\w@])@[\p{L}\p{M}\p{N}_]+")
# Control, format (but not the zero-width joiner that builds emoji), surrogate and private characters.
INVISIBLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200c\u200e\u200f\u2060\ufeff\ud800-\udfff]")
BLANKS = re.compile(r"[^\S\n]+")
LINES = re.compile(r"\s*\n\s*")


def normalise(text: str | None) -> str:
    """Return the normal form of a text: NFKC, entities resolved, addresses and names masked, blanks folded.

    Links become ``http`` and user names ``@user``: who and where are not what a text is about, and the public
    tweet corpora are masked the same way. Lines are kept, because they separate a title from a body.
    """
    if not text:
        return ""
    # Until nothing changes: one step may write what another reads (``&amp;lt;``, a full-width ``＆lt;``).
    while (plain := unicodedata.normalize("NFKC", html.unescape(text))) != text:
        text = plain
    text = MENTION.sub("@user", URL.sub("http", INVISIBLE.sub(" ", text)))
    return LINES.sub("\n", BLANKS.sub(" ", text)).strip()


def content_hash(normal: str) -> str:
    """Return the SHA-256 of a normalised text, as 64 hexadecimal digits."""
    return hashlib.sha256(normal.encode("utf-8", "replace")).hexdigest()


def document_text(title: str | None, text: str | None) -> str:
    """Return what is hashed, encoded and scored of a document: its title, if it has one, above its text."""
    return "\n".join(part for part in (title, text) if part)


def normal_forms(texts: Iterable[str | None]) -> tuple[list[str], list[str]]:
    """Return the normal forms of texts and their hashes, in order."""
    normal = [normalise(text) for text in texts]
    return normal, [content_hash(text) for text in normal]
