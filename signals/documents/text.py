"""Text as it is counted and as every model sees it: one normal form, and the hash that names it.

``plain`` is what a reader sees, however it was encoded: features count it. ``normalise`` masks addresses and names in
it: models read that. Equal normal forms have equal hashes, so a text is encoded once however and wherever it arrives.
"""

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable

import regex

# Text is escaped once, or twice by mistake. What is still escaped after this many passes was made to cost time.
MAX_PASSES = 8
# Marks on one letter (UAX 15, Stream-Safe Text): putting more of them in order takes quadratic time.
MAX_MARKS = 30

# What follows an ampersand and writes another: ``&amp;#38;lt;`` is one reference, escaped twice more.
NESTED = re.compile(
    r"(?<=&)(?:(?:amp|AMP|#0*(?:38|65286|65120)(?!\d)|#[xX]0*(?:26|[fF]{2}06|[fF][eE]60)(?![\da-fA-F]));?)+"
)
NUMBER = re.compile(r"(?<=&#)0*(\d+)|(?<=&#[xX])0*([\da-fA-F]+)")
# The longest number of a character has seven digits.
MAX_DIGITS = 8

# A reader sees none of these. Number signs of Arabic are format characters, and seen.
INVISIBLE = regex.compile(
    r"(?V1)[[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}\p{Cs}]--[\p{White_Space}\p{Prepended_Concatenation_Mark}]]"
)
# Of those, joiners, variation selectors and tags may change how their neighbours are read.
SELECTING = r"\u200C\u200D\uFE0E\uFE0F\U000E0020-\U000E007F"
UNSEEN = regex.compile(rf"(?V1)[{INVISIBLE.pattern.removeprefix('(?V1)')}--[{SELECTING}]]+")
# They are kept where UTS 51 (emoji) and UAX 31 (scripts whose letters join) say that they do. A pattern looks back from
# what it keeps, and takes runs whole: so each is read once.
SELECTED = regex.compile(
    rf"""(?V1x)
    (   \U0001F3F4[\U000E0030-\U000E0039\U000E0061-\U000E007A]{{3,6}}\U000E007F  # the flags of England, Scotland, Wales
    |   [\uFE0E\uFE0F](?<=[\p{{Emoji}}--[\p{{Emoji_Presentation}}0-9\#*]].)
    |   \uFE0E(?<=\p{{Emoji_Presentation}}.)
    |   \uFE0F(?<=[0-9\#*].)(?=\u20E3)
    |   \u200D(?<=[\p{{Extended_Pictographic}}\p{{Emoji_Modifier}}\uFE0F].)(?=\p{{Extended_Pictographic}})
    |   \u200C(?<=[\p{{Joining_Type=D}}\p{{Joining_Type=L}}]\p{{M}}*.)
        (?=[{SELECTING}]*+\p{{M}}*+[\p{{Joining_Type=D}}\p{{Joining_Type=R}}])
    |   \u200C(?<=\p{{ccc=Virama}}.)(?=[{SELECTING}]*+\p{{L}})
    |   \u200D(?<=\p{{ccc=Virama}}.)
    |   \u200D(?<=[\p{{L}}\p{{M}}].)(?=\p{{ccc=Virama}})
    ) | [{SELECTING}]"""
)
STACKED = regex.compile(rf"(\p{{M}}{{{MAX_MARKS}}})\p{{M}}+")
# Emoji that NFKC would spell out in letters and marks: ™️, ‼️, 🈁.
STYLED = re.compile(
    "([\u203c\u2049\u2122\u2139\u24c2\u3297\u3299\U0001f202\U0001f237](?=\ufe0f)|"
    "[\U0001f201\U0001f21a\U0001f22f\U0001f232-\U0001f236\U0001f238-\U0001f23a\U0001f250\U0001f251](?!\ufe0e))"
)

URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
# After a Latin letter or a digit, the sign belongs to a mail address; other scripts may write no blank before it.
MENTION = regex.compile(r"(?<![\p{Latin}\p{N}_@])@(?:(?!.\uFE0F)[\p{L}\p{M}\p{N}_\u200C\u200D])+")
BLANKS = re.compile(r"[^\S\n]+")
LINES = re.compile(r"\s*\n\s*")


def plain(text: str | None) -> str:
    """Return what a reader sees of a text: entities resolved, NFKC, nothing invisible, blanks folded.

    Invisible characters vanish without a blank, except those that emoji and joining scripts are written with. Lines
    are kept, because they separate a title from a body.
    """
    if not text:
        return ""
    # Until nothing changes: one step may write what another reads (``&amp;lt;``, a full-width ``＆lt;``).
    for _ in range(MAX_PASSES):
        before, text = text, _clean(_unescaped(text))
        if text == before:
            return LINES.sub("\n", BLANKS.sub(" ", text)).strip()
    return plain(text.replace("&", " "))


def normalise(text: str | None) -> str:
    """Return the normal form of a text: what a reader sees, with addresses and names masked.

    Links become ``http`` and user names ``@user``: who and where are not what a text is about, and the public
    tweet corpora are masked the same way.
    """
    return MENTION.sub("@user", URL.sub("http", plain(text)))


def content_hash(normal: str) -> str:
    """Return the SHA-256 of a normalised text, as 64 hexadecimal digits."""
    return hashlib.sha256(normal.encode("utf-8", "replace")).hexdigest()


def document_text(title: str | None, text: str | None) -> str:
    """Return what is hashed, encoded and scored of a document: its title, if it has one, above its text."""
    return "\n".join(part for part in (title, text) if part)


def document_texts(titles: Iterable[str | None], texts: Iterable[str | None]) -> list[str]:
    """Return what is hashed, encoded and scored of documents, in order."""
    return [document_text(title, text) for title, text in zip(titles, texts, strict=True)]


def plain_texts(texts: Iterable[str | None]) -> list[str]:
    """Return what a reader sees of texts, in order."""
    return [plain(text) for text in texts]


def normal_forms(texts: Iterable[str | None]) -> tuple[list[str], list[str]]:
    """Return the normal forms of texts and their hashes, in order."""
    normal = [normalise(text) for text in texts]
    return normal, [content_hash(text) for text in normal]


def _unescaped(text: str) -> str:
    if "&" not in text:
        return text
    return html.unescape(NUMBER.sub(lambda found: found[found.lastindex or 0][:MAX_DIGITS], NESTED.sub("", text)))


def _clean(text: str) -> str:
    if INVISIBLE.search(text):
        text = SELECTED.sub(r"\1", UNSEEN.sub("", text))
    if text.isascii():
        return text
    parts = STYLED.split(STACKED.sub(r"\1", text))
    return "".join(part if place % 2 else unicodedata.normalize("NFKC", part) for place, part in enumerate(parts))
