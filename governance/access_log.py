"""The log of access: who asked what of which tables, and how many rows came back, as a chain of lines.

Each line holds the digest of the line before it, and is signed. The digest of each line is anchored in a second store.
A line holds no content of a row, and of a question its shape alone.
"""

import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from governance.access import Identity

# What the first line has for the digest of the line before it.
BEGINNING = "0" * 64


@dataclass(frozen=True)
class Access:
    """One question, and what came of it.

    Attributes:
        who: names who asked.
        role: role as which it asked.
        tenant: tenant whose rows it asked for; None for all.
        door: where it asked, such as ``sql`` or ``POST /v1/sql``.
        tables: tables that the question is about.
        rows: number of rows that came back.
        outcome: ``answered``, or the name of the error.
        query: the query without its literals and own names; None for what is no query.
        question: digest of the question as it was asked.
    """

    who: str
    role: str
    tenant: str | None
    door: str
    tables: tuple[str, ...]
    rows: int
    outcome: str
    query: str | None
    question: str

    @classmethod
    def of(cls, asks: Identity, door: str, question: str, key: bytes | None, **more: Any) -> "Access":
        """Return what an identity asked.

        Args:
            asks: the identity.
            door: see the attribute.
            question: what it asked: SQL, an id, an address.
            key: key of the digest, without which a question can be guessed and compared.
            more: the other attributes.
        """
        return cls(asks.name, asks.role, asks.tenant, door, question=_signed(question, key), **more)


@dataclass(frozen=True)
class Head:
    """The end of the log at some time.

    Attributes:
        number: number of lines.
        digest: digest of the last line.
        signature: HMAC-SHA256 of the digest; None if no key is set.
    """

    number: int
    digest: str
    signature: str | None

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))


def line_after(head: Head | None, access: Access, at: datetime, key: bytes | None) -> str:
    """Return the line that follows a head; None is the head of an empty log."""
    content = {"number": (head.number if head else 0) + 1, "at": at.isoformat(), **asdict(access)}
    content["before"] = head.digest if head else BEGINNING
    digest = digest_of(content)
    return json.dumps(content | {"digest": digest, "signature": _signature(digest, key)})


def head_of(line: str) -> Head:
    """Return the head of a log that ends with a line.

    Raises:
        ValueError: it is no line of a log.
    """
    try:
        content = json.loads(line)
        return Head(int(content["number"]), str(content["digest"]), content["signature"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("no line of a log") from None


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a line's content without its own digest and signature."""
    own = {name: value for name, value in content.items() if name not in {"digest", "signature"}}
    return sha256(json.dumps(own, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def faults(lines: Mapping[int, str], anchors: Mapping[int, str], key: bytes | None) -> Iterator[str]:
    """Yield what is wrong with a log, one sentence a fault.

    Args:
        lines: each line by the number in its name.
        anchors: each head as the second store holds it, by the number in its name.
        key: key of the signatures; without one they are not looked at.
    """
    before = BEGINNING
    for number in range(1, max({*lines, *anchors}, default=0) + 1):
        line = lines.get(number)
        if line is None:
            yield f"line {number} is missing"
            before = ""
            continue
        try:
            content = json.loads(line)
            head = head_of(line)
        except ValueError:
            yield f"line {number} is no line of a log"
            before = ""
            continue
        if head.number != number:
            yield f"line {number} calls itself {head.number}"
        if content.get("before") != before:
            yield f"line {number} does not follow the line before it"
        if digest_of(content) != head.digest:
            yield f"line {number} was changed"
        if key and not _is_signed(head, key):
            yield f"line {number} is not signed with this key"
        if number not in anchors:
            yield f"line {number} has no anchor"
        elif anchors[number] != head.dump():
            yield f"line {number} is not the one that was anchored"
        before = head.digest


def _is_signed(head: Head, key: bytes) -> bool:
    return hmac.compare_digest(head.signature or "", _signature(head.digest, key) or "")


def _signature(digest: str, key: bytes | None) -> str | None:
    return hmac.digest(key, digest.encode(), "sha256").hex() if key else None


def _signed(text: str, key: bytes | None) -> str:
    content = text.encode("utf-8", "replace")
    return hmac.digest(key, content, "sha256").hex() if key else sha256(content).hexdigest()
