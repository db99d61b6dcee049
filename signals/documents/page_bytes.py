"""What HTTP and the bytes themselves say of a body: whether it is HTML, and in which charset it is written.

Bytes come before declarations. A byte order mark decides; then UTF-8, which hardly anything else is by chance; then
the charset of the HTTP header, that of the page's own meta element, and what the bytes look like.
"""

import codecs
import json
import re
from contextlib import suppress
from functools import lru_cache

HTML = frozenset({"text/html", "application/xhtml+xml"})
# What servers say of whatever they do not know: the bytes tell.
UNTOLD = frozenset({"", "application/octet-stream", "text/plain", "application/unknown", "unknown/unknown", "*/*"})
MEDIA_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+")
CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
META_CHARSET = re.compile(rb"""<meta[^<>]{0,500}?charset\s*=\s*["']?([^\s"'/<>;]+)""", re.IGNORECASE)
XML_ENCODING = re.compile(rb"""\s*<\?xml[^<>]{0,200}?encoding\s*=\s*["']([^\s"']+)""", re.IGNORECASE)
META_WITHIN = 4_096
TAGS = re.compile(rb"<[^<>]*>")

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# A browser reads what is declared as the first as the second (WHATWG Encoding): its superset of the same era.
SUPERSETS = {
    "ascii": "cp1252",
    "big5": "big5hkscs",
    "euc_jis_2004": "euc_jp",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-11": "cp874",
    "iso8859-9": "cp1254",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "tis-620": "cp874",
    "utf-16": "utf-16-le",
}
# Names that the web gives to charsets and Python does not know.
LABELS = {
    "dos-874": "cp874",
    "gb_2312-80": "gb18030",
    "iso-8859-8-i": "iso8859-8",
    "mac-cyrillic": "mac-cyrillic",
    "sjis": "cp932",
    "unicode-1-1-utf-8": "utf-8",
    "windows-31j": "cp932",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "x-big5": "big5hkscs",
}
EAST_ASIAN = frozenset({"big5hkscs", "cp932", "cp949", "euc_jp", "gb18030", "iso2022_jp"})
UTF16 = frozenset({"utf-16-le", "utf-16-be"})
SINGLE_BYTE = frozenset(
    {"cp866", "cp874", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic"}
    | {f"cp125{number}" for number in range(9)}
    | {f"iso8859-{number}" for number in range(2, 17)}
)
LATIN = frozenset({"cp1250", "cp1254", "cp1257"} | {f"iso8859-{number}" for number in (2, 3, 4, 9, 10, 13, 14, 15, 16)})
CODECS = EAST_ASIAN | UTF16 | SINGLE_BYTE | {"utf-8"}
REPLACED = "\N{REPLACEMENT CHARACTER}"
# Of what is not ASCII, this share may be damaged where a charset is believed; in UTF-8 hardly anything else is whole.
MAX_DAMAGED = {"utf-8": 0.2}
DAMAGED = 0.05
# Characters that are not ASCII, up to which another charset may look like UTF-8 by chance.
BY_CHANCE = 10
# A body of which a larger share are zeros is no text.
MAX_ZEROS = 0.01
# Bytes of the beginning, and of the end, that a charset is guessed from.
GUESSED_FROM = 5_000

BINARY = (b"%PDF-", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"PK\x03\x04", b"RIFF", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
ELEMENTS = (
    "html|head|body|title|meta|link|base|script|style|noscript|template|p|h[1-6]|div|span|article|main|section|header|"
    "footer|nav|aside|ul|ol|li|dl|table|tbody|tr|td|form|a|b|i|em|strong|font|br|hr|img|figure|picture|iframe|"
    "blockquote|pre|center|frameset|button|input|video|audio|svg"
)
BEGINS_HTML = re.compile(rf"<(?:!doctype\s+html|(?:{ELEMENTS})(?=[\s/>]))", re.IGNORECASE)
HOLDS_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body)(?=[\s/>])", re.IGNORECASE)
BLANKS = re.compile(r"[\s\ufeff]*")
FEED = re.compile(r"<(?:rss|feed|rdf:rdf|urlset|sitemapindex|opml|svg)(?=[\s/>])", re.IGNORECASE)
# Characters of a text in which its first element is looked for.
BEGINNING = 100_000


def media_type(content_type: str | None) -> str:
    """Return the media type of a Content-Type header in lower case; an empty string if it states none."""
    found = (content_type or "").split(";")[0].strip().lower()
    return found if MEDIA_TYPE.fullmatch(found) else ""


def charset(content_type: str | None) -> str | None:
    """Return the charset that a Content-Type header states."""
    found = CHARSET.search(content_type or "")
    return found[1] if found else None


def is_html(text: str, media: str) -> bool:
    """Say whether a text of some media type is a page of HTML: as declared, or as it begins where nothing is told."""
    if media not in HTML | UNTOLD:
        return False
    start = _start(text)
    if BEGINS_HTML.match(text, start):
        return not FEED.match(text, start)
    if media in UNTOLD or FEED.match(text, start):
        return False
    # Some pages begin with a warning of the server's; an answer of an interface is JSON, whatever it is called.
    return HOLDS_HTML.search(text, start, start + BEGINNING) is not None and not _is_json(text)


def _start(text: str) -> int:
    """Return where a text begins after blanks, comments and processing instructions."""
    at = 0
    while True:
        blanks = BLANKS.match(text, at)
        at = blanks.end() if blanks else at
        opening, closing = ("<!--", "-->") if text.startswith("<!--", at) else ("<?", ">")
        end = text.find(closing, at) if text.startswith(opening, at) else -1
        if end < 0:
            return at
        at = end + len(closing)


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[", '"')):
        return False
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def text_of(body: bytes, declared: str | None = None) -> str | None:
    """Return the text of a body.

    Args:
        body: bytes as fetched, content coding undone.
        declared: the charset that HTTP declares, if any.

    Returns:
        Its characters; what a charset does not know as U+FFFD. None for what is no text.
    """
    if body.startswith(BINARY):
        return None
    for mark, name in BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    meta = META_CHARSET.search(body[:META_WITHIN]) or XML_ENCODING.match(body[:META_WITHIN])
    within = _codec(meta[1].decode("ascii", "replace")) if meta else None
    # What can be read as ASCII far enough to find its meta element is no UTF-16.
    named = [name for name in (_codec(declared), "utf-8" if within in UTF16 else within) if name]
    if zeros := body.count(0):
        name = next((name for name in named if name in UTF16), _utf16(body))
        if name or zeros > MAX_ZEROS * len(body):
            return body.decode(name, "replace") if name else None
        body = body.replace(b"\0", b"")
    text = None if _looks_like_utf8_by_chance(body, named) else _decoded(body, "utf-8")
    if text is not None:
        return text
    legacy = (_decoded(body, name) for name in named if name != "utf-8")
    return next((found for found in legacy if found is not None), None) or _guessed(body)


def _looks_like_utf8_by_chance(body: bytes, named: list[str]) -> bool:
    """Say whether bytes that are valid UTF-8 are in the East Asian charset that is declared all the same."""
    if not named or named[0] not in EAST_ASIAN:
        return False
    if named[0] == "iso2022_jp":
        return b"\x1b" in body
    others = bytes(byte for byte in body if byte > 0x7F) if len(body) < BEGINNING else body
    return 0 < len(others) <= 2 * BY_CHANCE and _decoded(body, named[0]) is not None


def _decoded(body: bytes, name: str) -> str | None:
    """Return a body in a charset, or None if the bytes contradict it."""
    with suppress(UnicodeDecodeError):
        return body.decode(name)
    text = body.decode(name, "replace")
    others = len(text) - len(text.encode("ascii", "ignore"))
    return text if text.count(REPLACED) <= MAX_DAMAGED.get(name, DAMAGED) * others else None


def _utf16(body: bytes) -> str | None:
    """Return which UTF-16 a body without a mark is in, if it begins as markup in either."""
    beginning = body[:META_WITHIN]
    decoded = ((name, beginning.decode(name, "replace").lstrip()) for name in sorted(UTF16))
    return next((name for name, text in decoded if text.startswith("<")), None)


def _guessed(body: bytes) -> str:
    from charset_normalizer import from_bytes

    plain = TAGS.sub(b" ", body)
    sample = plain if len(plain) <= 2 * GUESSED_FROM else plain[:GUESSED_FROM] + plain[-GUESSED_FROM:]
    found = [name for guess in from_bytes(sample) if (name := _codec(guess.encoding)) and name != "utf-8"]
    # Between charsets of Latin letters it guesses; a browser takes the most common.
    latin = not found or (found[0] in LATIN and "cp1252" in found)
    return body.decode("cp1252" if latin else found[0], "replace")


@lru_cache(maxsize=256)
def _codec(label: str | None) -> str | None:
    """Return the codec of a charset as a browser would read it; None if the web knows no such charset."""
    key = (label or "").strip().lower()
    for name in (key, key.removeprefix("x-")):
        try:
            found = codecs.lookup(LABELS.get(name, name)).name
        except (LookupError, ValueError):
            continue
        found = SUPERSETS.get(found, found)
        if found in CODECS:
            return found
    return None
