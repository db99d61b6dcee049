"""Addresses of pages and pictures: one name for all spellings of one address, and the site that it is on.

The WHATWG URL standard (the parser that browsers agree on) folds what cannot differ: case, default ports, dot segments,
international hosts. On top, the spellings that RFC 3986 calls equal are one, and what only tracks a reader is dropped.
"""

import re
from pathlib import Path
from urllib.parse import urljoin

from can_ada import URL, parse

# How an address of the web begins, and what the parser calls that.
WEB = ("http://", "https://")
PROTOCOLS = ("http:", "https:")
# RFC 9110 asks servers for 8,000 octets; what is longer is data, and costs more to read than it names.
MAX_LENGTH = 8_192
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# An encoded character, or one that RFC 3986 allows in no path or query (``%`` itself among them).
ENCODED = re.compile(r"%[\dA-Fa-f]{2}|[^\w\-.~!$&'()*+,;=:@/?]", re.ASCII)


def _tracking() -> re.Pattern[str]:
    path = Path(__file__).with_name("tracking_parameters.tsv")
    names = [line.partition("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in names), re.IGNORECASE)


TRACKING = _tracking()


def canonical_url(url: str) -> str:
    """Return the one address that all spellings of a web address share.

    User names, fragments and tracking parameters are no part of it; other parameters keep their order. What is no web
    address (an id, a file's name, an invalid host or port, more than ``MAX_LENGTH`` characters) is only stripped.
    """
    url = url.strip()
    parts = _parsed(url)
    if parts is None:
        return url
    port = f":{parts.port}" if parts.port else ""
    path, query = ENCODED.sub(_encoded, parts.pathname), ENCODED.sub(_encoded, parts.search[1:])
    kept = "&".join(pair for pair in query.split("&") if pair and not TRACKING.fullmatch(pair.partition("=")[0]))
    return f"{parts.protocol}//{_host(parts)}{port}{path}{'?' if kept else ''}{kept}"


def hostname(url: str) -> str:
    """Return the host of a web address without ``www.``, in ASCII; an empty string where there is none."""
    parts = _parsed(url.strip())
    return "" if parts is None else _host(parts).strip("[]").removeprefix("www.")


def joined(url: str, reference: str) -> str:
    """Return what a reference on a page points to; an empty string where it is no address."""
    try:
        return urljoin(url, reference)
    except ValueError:
        return ""


def _parsed(url: str) -> URL | None:
    """Return the parts of a web address, None where it is none."""
    if len(url) > MAX_LENGTH:
        return None
    try:
        parts = parse(url)
    except (ValueError, TypeError):  # half of a surrogate pair is a TypeError
        return None
    # A name of DNS has no empty label but the root's.
    return parts if parts.protocol in PROTOCOLS and not _host(parts).endswith(".") and _host(parts) else None


def _host(parts: URL) -> str:
    """Return the host without the dot of the root, with which it is the same."""
    return parts.hostname.removesuffix(".")


def _encoded(found: re.Match[str]) -> str:
    spelt = found[0]
    if len(spelt) == 1:
        return f"%{ord(spelt):02X}"
    character = chr(int(spelt[1:], 16))
    return character if character in UNRESERVED else spelt.upper()
