"""One record of a source, the digest of several, and a file that lands with them."""

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
        position: its place in the file: line, or number of the record, from 1.
        fields: what it says; None if it could not be read, or has not been yet.
        broken: the rule that it breaks: ``not_json``, ``not_an_object``, ``not_utf8``, ``too_large``, and of what
            may still be being written ``unfinished_line``, ``corrupt_file``.
        raw: the beginning of what could not be read.
        line: JSON that has not been read yet (see ``parse_line``).
    """

    position: int
    fields: Fields | None = None
    broken: str | None = None
    raw: str | None = None
    line: bytes | None = None


class ReplacedError(RuntimeError):
    """A file is no longer what was found: another look finds what has come in its place."""


class LandingFile(Protocol):
    """A file that has landed in a folder or a bucket."""

    @property
    def folder(self) -> str:
        """Which kind of record it holds, a key of ``readers.FOLDERS``."""
        ...

    @property
    def name(self) -> str:
        """Path below the landing folder; it names the source in every table."""
        ...

    @property
    def state(self) -> int:
        """A 61-bit number that is another whenever the file has been written, without a look into it.

        Raises:
            ReplacedError: it is gone.
        """
        ...

    def records(self, max_bytes: int) -> Iterator[Record]:
        """Yield its records, of each of which ``max_bytes`` are read at most.

        What is written from now on changes ``state``.

        Raises:
            ReplacedError: before the first record.
        """
        ...


class Digest:
    """A number that names what some records say, wherever they lie: records that were read again have the same.

    Args:
        ignored: a field that does not count.
    """

    def __init__(self, ignored: str | None = None) -> None:
        self._hash, self._ignored = hashlib.blake2b(digest_size=8), ignored

    def add(self, record: Record) -> int:
        """Add a record, and return how many bytes it has."""
        if record.line is not None:
            line = record.line.strip()
            self._hash.update(line)
            self._hash.update(b"\n")
            return len(line)
        if record.fields is None:
            parts = [_bytes(record.broken), _bytes(record.raw)]
        else:
            counted = [field for field in record.fields.items() if field[0] != self._ignored]
            parts = [part for name, value in counted for part in (_bytes(name), _bytes(type(value)), _bytes(value))]
        self._hash.update(b"\n%d:" % len(parts))  # no line begins with its end
        for part in parts:
            self._hash.update(b"%d:" % len(part))
            self._hash.update(part)
        return sum(map(len, parts))

    @property
    def number(self) -> int:
        """62 bits, of the records so far."""
        return int.from_bytes(self._hash.digest(), "big") >> 2


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return repr(value).encode()
    except RecursionError:
        return b"nested too deep"


def state_number(*parts: object) -> int:
    """Return a positive 61-bit number that names some values."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 3


def source_name(path: Path, root: Path) -> str:
    """Return a file's path below the landing folder as text that UTF-8 can hold, another one for each file.

    What is not UTF-8 becomes ``%XX``, and ``%`` then ``%25``. Such a name begins with ``./``, as no other does.
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
        # It says no to some that are JSON all the same, half a surrogate pair for one.
        try:
            fields = STRICT_JSON.decode(line.removeprefix(BOM_UTF8).decode())
        except (ValueError, RecursionError) as error:
            fields, broken = None, "not_utf8" if isinstance(error, UnicodeDecodeError) else "not_json"
    if isinstance(fields, dict):
        return Record(position, fields)
    return Record(position, broken=broken, raw=line.decode("utf-8", "replace"))
