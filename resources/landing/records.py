"""Records of a source, their digest, and the protocol of a landed file."""

import hashlib
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Never, Protocol

import msgspec

Fields = dict[str, Any]


class Record(NamedTuple):
    """One record of a file or topic.

    Attributes:
        position: line, or number of the record, from 1.
        fields: content by field; None if it is broken, or not parsed yet.
        broken: the rule that it breaks: ``not_json``, ``not_an_object``, ``not_utf8``, ``too_large``; in a file that
            may still be written also ``unfinished_line`` and ``corrupt_file``.
        raw: the beginning of a broken record.
        line: JSON that is not parsed yet (see ``parse_line``).
    """

    position: int
    fields: Fields | None = None
    broken: str | None = None
    raw: str | None = None
    line: bytes | None = None


class ReplacedError(RuntimeError):
    """A file was replaced or deleted since it was listed; the next listing shows its successor."""


class LandingFile(Protocol):
    """A file that has landed in a folder or a bucket."""

    @property
    def folder(self) -> str:
        """Kind of its records, a key of ``readers.FOLDERS``."""
        ...

    @property
    def name(self) -> str:
        """Path below the landing folder; it names the source in every table."""
        ...

    @property
    def state(self) -> int:
        """A 61-bit number that changes with every write of the file, found without reading it.

        Raises:
            ReplacedError: the file was deleted.
        """
        ...

    def records(self, max_bytes: int) -> Iterator[Record]:
        """Yield its records, reading at most ``max_bytes`` of each.

        Every write from now on changes ``state``.

        Raises:
            ReplacedError: before the first record.
        """
        ...


class Digest:
    """A running hash of records' content, independent of their positions.

    Args:
        ignored: a field that is left out.
    """

    def __init__(self, ignored: str | None = None) -> None:
        self._hash, self._ignored = hashlib.blake2b(digest_size=8), ignored

    def add(self, record: Record) -> int:
        """Add a record, and return its size in bytes."""
        if record.line is not None:
            line = record.line.strip()
            self._hash.update(line)
            self._hash.update(b"\n")
            return len(line)
        if record.fields is None:
            parts = [_bytes(record.broken), _bytes(record.raw)]
        else:
            fields = [field for field in record.fields.items() if field[0] != self._ignored]
            parts = [part for name, value in fields for part in (_bytes(name), _bytes(type(value)), _bytes(value))]
        self._hash.update(b"\n%d:" % len(parts))  # no line begins with its end
        for part in parts:
            self._hash.update(b"%d:" % len(part))
            self._hash.update(part)
        return sum(map(len, parts))

    @property
    def number(self) -> int:
        """62 bits of the hash of the records so far."""
        return int.from_bytes(self._hash.digest(), "big") >> 2


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return repr(value).encode()
    except RecursionError:
        return b"nested too deep"


def state_number(*parts: object) -> int:
    """Return a positive 61-bit hash of some values."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 3


def source_name(path: Path, root: Path) -> str:
    """Return a file's path below the landing folder as valid UTF-8, different for each file.

    Bytes that are not UTF-8 become ``%XX``, and ``%`` then ``%25``. Only such a name begins with ``./``.
    """
    name = path.relative_to(root).as_posix()
    if name.isascii() or not any("\udc80" <= character <= "\udcff" for character in name):
        return name
    return "./" + re.sub("[%\udc80-\udcff]", lambda match: f"%{ord(match[0]) & 0xFF:02X}", name)


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON")


STRICT_JSON = json.JSONDecoder(parse_constant=_refuse)


def parse_line(line: bytes, position: int) -> Record:
    """Return the record of one line of JSON."""
    broken = "not_an_object"
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # It refuses some valid JSON, such as half a surrogate pair.
        try:
            fields = STRICT_JSON.decode(line.removeprefix(BOM_UTF8).decode())
        except (ValueError, RecursionError) as error:
            fields, broken = None, "not_utf8" if isinstance(error, UnicodeDecodeError) else "not_json"
    if isinstance(fields, dict):
        return Record(position, fields)
    return Record(position, broken=broken, raw=line.decode("utf-8", "replace"))
