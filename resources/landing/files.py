"""Files as they land: found by folder, opened whatever their container, read record by record."""

import csv
import gzip
import hashlib
import io
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, NamedTuple, Never, Protocol, Self, cast
from urllib.parse import quote

import msgspec
import pyarrow as pa

from resources.landing import corpora, warc
from resources.landing.corpora import Fields
from signals.documents.supply_chain import BOM, ads_txt, domain, sellers_json

# What may lie in which folder, by the ending of a path without .gz or .zst.
EVENTS = (".jsonl", ".ndjson")
FOLDERS: dict[str, tuple[str, ...]] = {
    "pages": (*EVENTS, ".html", ".htm", ".warc", ".png", ".jpg", ".jpeg", ".gif", ".webp"),
    "messages": EVENTS,
    "users": EVENTS,
    "labels": EVENTS,
    "ad_events": EVENTS,
    "inventory": EVENTS,
    "rtb_auctions": EVENTS,
    "user_sync": EVENTS,
    "supply_chain": ("/ads.txt", "/sellers.json"),
}
# Folders whose files do not grow: each is replaced as a whole, and only its newest version counts.
REPLACED = ("supply_chain",)
# Seconds within which a file that is written twice may show one time: the longest tick of a kernel's clock.
TICK = 0.01
PACKED = (".gz", ".zst")
DOCUMENTS = {".txt": ("ads.txt", ads_txt), ".json": ("sellers.json", sellers_json)}
SAVED = re.compile(
    rb"<!--[^>]*?\surl: (?P<url>\S+)(?:\s[^>]*?saved date: (?P<date>\w{3} \w{3} \d\d? \d{4} [\d:]{8} GMT[+-]\d{4}))?"
)
MEDIA = {".html": "text/html", ".htm": "text/html", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


class Record(NamedTuple):
    """One record of a file or topic.

    Attributes:
        position: its place in the file: line, or number of the record, from 1.
        fields: what it says; None if it could not be read, or has not been yet.
        broken: the rule that it breaks: ``not_json``, ``not_an_object``, ``not_utf8``, ``too_large``, and of what
            may still be being written ``unfinished_line``, ``corrupt_file``.
        raw: the beginning of what could not be read.
        line: JSON that has not been read yet (see ``parse``).
    """

    position: int
    fields: dict[str, Any] | None = None
    broken: str | None = None
    raw: str | None = None
    line: bytes | None = None


class ReplacedError(RuntimeError):
    """A file is no longer what was found: another look finds what has come in its place."""


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
            said = [_bytes(record.broken), _bytes(record.raw)]
        else:
            counted = [one for one in record.fields.items() if one[0] != self._ignored]
            said = [part for name, value in counted for part in (_bytes(name), _bytes(type(value)), _bytes(value))]
        self._hash.update(b"\n%d:" % len(said))  # no line begins with its end
        for one in said:
            self._hash.update(b"%d:" % len(one))
            self._hash.update(one)
        return sum(map(len, said))

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


def number_of(*parts: object) -> int:
    """Return a positive 61-bit number that names some values."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 3


class Landed(Protocol):
    """A file that has landed, wherever that is; ``name`` names the source in every table, as its path below."""

    @property
    def folder(self) -> str:
        """Which kind of record it holds, a key of ``FOLDERS``."""
        ...

    @property
    def name(self) -> str:
        """Path below the landing folder."""
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


@dataclass(frozen=True)
class LandedFile:
    """A file that has landed in a folder.

    Attributes:
        folder: which kind of record it holds, a key of ``FOLDERS``.
        name: path below the landing folder; names the source in every table.
        path: where it is.
        read: returns its records, given the most bytes that one may have.
    """

    folder: str
    name: str
    path: Path
    read: Callable[[Path, int], Iterator[Record]]

    @property
    def state(self) -> int:
        """See ``Landed``: of its size and times; a write changes one of these, also if it sets another back."""
        found = self._found()
        return number_of(found.st_size, found.st_mtime_ns, found.st_ctime_ns) if found else 0

    def records(self, max_bytes: int) -> Iterator[Record]:
        """See ``Landed``."""
        found = self._found()
        wait = found.st_ctime_ns / 10**9 + TICK - time.time() if found else 0
        if wait > 0:
            time.sleep(min(TICK, wait))
        yield from self.read(self.path, max_bytes)

    def _found(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ReplacedError(self.name) from None
        except OSError:  # what may not be looked at may not be read either, which is then said
            return None


def landed_files(root: Path, folder: str) -> list[LandedFile]:
    """Return the files of one kind below a landing folder, in order of their names; none if it has none.

    Nothing is read that lies elsewhere: a symbolic link that leads out of the landing folder is passed over with a
    warning. One that stays inside gives what it leads to, unless that is found without it.
    """
    found = [
        LandedFile(folder, corpora.named(path, root), path, reader(path.relative_to(root), folder, written_at))
        for path in _below(root, folder)
    ]
    if folder == "supply_chain":
        found += [
            LandedFile(folder, name, root / name, _declarations(whose, written_at))
            for name, whose in corpora.DECLARED_BY.items()
            if _inside(root, [root / name])
        ]
    for corpus in corpora.CORPORA:
        if corpus.folder == folder:
            found += [
                LandedFile(folder, corpora.named(path, root), path, _corpus_reader(corpus, root))
                for path in _inside(root, sorted(root.glob(corpus.files)))
            ]
    return found


def _below(root: Path, folder: str) -> list[Path]:
    """Return the paths of files of one kind, sorted: those that lie there, then what links lead to besides."""
    inside, top = os.path.realpath(root), os.path.realpath(root / folder)
    known: dict[str, PurePath | None] = {}
    links, outside = [PurePath(folder)], []
    while links:
        link = links.pop(0)
        real = os.path.realpath(root / link)
        if not Path(real).is_relative_to(inside):
            outside.append(root / link)
        elif real == top or not Path(top).is_relative_to(real):  # one that leads upwards would come here again
            links = sorted(links + _walked(real, link, folder, known))
    _say_outside(root, tuple(outside))
    return sorted(root / shown for shown in known.values() if shown)


def _walked(real: str, shown: PurePath, folder: str, known: dict[str, PurePath | None]) -> list[PurePath]:
    """Add what lies at a path to what is known by its real path: a file as it is shown; return the links there."""
    links, waiting = list[PurePath](), [(real, shown)]
    if is_landed(shown, folder) and Path(real).is_file():
        known.setdefault(real, shown)
    while waiting:
        real, shown = waiting.pop()
        if real in known:
            continue
        known[real] = None
        for entry in _entries(real):
            if entry.name.startswith((".", "_")):
                continue
            path = shown / entry.name
            if entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                waiting.append((entry.path, path))
            elif entry.is_file() and is_landed(path, folder):
                known.setdefault(entry.path, path)
    return links


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _say(f"{folder!r} cannot be looked into, and is not read: {error.strerror}")
        return []


def _inside(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Return those of some paths at which a file is that lies below the landing folder."""
    real = {path: Path(os.path.realpath(path)) for path in paths if path.is_file()}
    inside = [path for path, where in real.items() if where.is_relative_to(os.path.realpath(root))]
    _say_outside(root, tuple(path for path in real if path not in inside))
    return inside


def _say_outside(root: Path, links: tuple[Path, ...]) -> None:
    if links:
        names = ", ".join(repr(corpora.named(link, root)) for link in links[:3])
        more = f" and {len(links) - 3} more" if len(links) > 3 else ""
        _say(f"links that lead out of the landing folder are not read: {names}{more}")


@lru_cache(maxsize=1_000)
def _say(what: str) -> None:
    """Warn of something, once."""
    logging.getLogger(__name__).warning("%s", what)


def written_at(path: Path) -> int:
    """Return when a file came to lie where it is: milliseconds since 1970.

    Unlike the time at which it was written, this is later for each version, also where an older one is put back.
    """
    return path.stat().st_ctime_ns // 10**6


def unpack(path: Path) -> IO[bytes]:
    """Open a plain, gzip or zstd file as a stream of bytes."""
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        # Arrow's reader, since zstandard's takes a file that is cut short for one that ends there; but it opens no file
        # whose name is not UTF-8.
        return io.BufferedReader(pa.CompressedInputStream(path.open("rb"), "zstd"))
    return path.open("rb")


def is_landed(path: PurePath, folder: str) -> bool:
    """Say of a path below the landing folder whether such a file is read, as its ending and no hidden part say."""
    return _unpacked(path).endswith(FOLDERS[folder]) and not any(part.startswith((".", "_")) for part in path.parts)


def _unpacked(path: PurePath) -> str:
    return (path.with_suffix("") if path.suffix in PACKED else path).as_posix().lower()


def _ending(path: PurePath) -> str:
    return PurePosixPath(_unpacked(path)).suffix


def reader(path: PurePath, folder: str, written: Callable[[Path], int]) -> Callable[[Path, int], Iterator[Record]]:
    """Return what reads a file.

    Args:
        path: where it has landed, below the landing folder.
        folder: which kind of record it holds.
        written: returns when a file came to lie where it is: see ``written_at``.
    """
    if folder == "supply_chain":
        return _declarations(path.parent.name, written)
    ending = _ending(path)
    if ending in EVENTS:
        return read_lines
    return read_warc if ending == ".warc" else partial(read_whole, url=f"file:///{quote(os.fsencode(path))}")


def _corpus_reader(corpus: "corpora.Corpus", root: Path) -> Callable[[Path, int], Iterator[Record]]:
    def read(path: Path, max_bytes: int) -> Iterator[Record]:
        with _survived(0) as fault:
            for position, fields in enumerate(corpus.records(path, root), 1):
                fault.position = position
                if sum(len(value) for value in fields.values() if isinstance(value, (str, bytes))) > max_bytes:
                    yield Record(position, broken="too_large", raw=path.name)
                else:
                    yield Record(position, fields)
        yield from fault.records()

    return read


# What reading a damaged file raises, of whatever container, or a corpus file that is not of its shape.
DAMAGE = (OSError, EOFError, zlib.error, csv.Error, ValueError, LookupError, TypeError, AttributeError)


class _survived:  # noqa: N801
    """A block in which a damaged file ends the reading with one ``corrupt_file`` record instead of a crash."""

    def __init__(self, position: int) -> None:
        self.position, self.error = position, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, DAMAGE):
            self.error = f"{type(error).__name__}: {error}"
            return True
        return False

    def records(self) -> list[Record]:
        return [Record(self.position + 1, broken="corrupt_file", raw=self.error[:500])] if self.error else []


def read_lines(path: Path, max_bytes: int) -> Iterator[Record]:
    """Split JSON lines; they are read where they become rows (see ``parse``), but for a last one that is not ended."""
    with _survived(0) as fault, unpack(path) as file:
        while line := file.readline(max_bytes + 1):
            fault.position += 1
            if len(line) > max_bytes:
                beginning = line[:500].decode("utf-8", "replace")
                while line and not line.endswith(b"\n"):
                    line = file.readline(1 << 20)
                yield Record(fault.position, broken="too_large", raw=beginning)
            elif not line.isspace():
                record = Record(
                    fault.position, None, None, None, line
                )  # a named argument would cost half as much again
                read = record if line.endswith(b"\n") else parse(line, fault.position)
                unfinished = read.broken in ("not_json", "not_utf8")
                yield read._replace(broken="unfinished_line") if unfinished else record
    yield from fault.records()


def _no_json(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON")


JSON = json.JSONDecoder(parse_constant=_no_json)


def parse(line: bytes, position: int) -> Record:
    """Return the record of one line of JSON."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # It says no to some that are JSON all the same, half a surrogate pair for one.
        try:
            fields = JSON.decode(line.removeprefix(BOM).decode())
        except UnicodeDecodeError:
            return Record(position, broken="not_utf8", raw=line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return Record(position, broken="not_json", raw=line.decode("utf-8", "replace"))
    if not isinstance(fields, dict):
        return Record(position, broken="not_an_object", raw=line.decode("utf-8", "replace"))
    return Record(position, fields)


def read_whole(path: Path, max_bytes: int, url: str) -> Iterator[Record]:
    """Read a file that is one page or one picture; its address is the one that the page itself names, else ``url``."""
    with _survived(0) as fault, unpack(path) as file:
        body = file.read(max_bytes + 1)
        if len(body) > max_bytes:
            yield Record(1, broken="too_large", raw=path.name)
        else:
            media = MEDIA.get(_ending(path), f"image/{_ending(path)[1:]}")
            yield Record(1, {"url": url, "content_type": media, "body": body, **_saved(body)})
    yield from fault.records()


def _declarations(declared_by: str, written: Callable[[Path], int]) -> Callable[[Path, int], Iterator[Record]]:
    """Return what reads the ads.txt of a site, or the sellers.json of an exchange, given its domain."""

    def read(path: Path, max_bytes: int) -> Iterator[Record]:
        (document, declarations), whose, fetched_at = DOCUMENTS[_ending(path)], domain(declared_by), written(path)
        with _survived(0) as fault, unpack(path) as file:
            body = file.read(max_bytes + 1)
            if whose is None or len(body) > max_bytes:
                yield Record(1, broken="too_large" if whose else "not_a_domain:declared_by", raw=path.name)
                return
            common = {"declared_by": whose, "document": document, "fetched_at": fetched_at}
            for one in declarations(body):
                fields = None if one.fields is None else {**common, "line": one.line, **one.fields}
                yield Record(one.line, fields, one.broken, one.raw)
        yield from fault.records()

    return read


def _saved(body: bytes) -> Fields:
    """Return address and time that a saved page carries in a comment, as SingleFile writes it."""
    comment = SAVED.search(body[:4_096])
    if comment is None:
        return {}
    fields: Fields = {"url": comment["url"].decode("utf-8", "replace")}
    with suppress(ValueError):
        moment = datetime.strptime((comment["date"] or b"").decode("ascii"), "%a %b %d %Y %H:%M:%S GMT%z")
        fields["fetched_at"] = moment.isoformat()
    return fields


def read_warc(path: Path, max_bytes: int) -> Iterator[Record]:
    """Read the responses of a WARC file (ISO 28500); requests and metadata are no fetches and are passed over."""
    with _survived(0) as fault, unpack(path) as file:
        for found in warc.responses(file, max_bytes):
            fault.position += 1
            yield _fetch(found, fault.position)
    yield from fault.records()


def _fetch(found: warc.Response, position: int) -> Record:
    if found.broken:
        return Record(position, broken=found.broken, raw=found.url)
    said = {
        "http_status": found.http_status,
        "content_type": found.content_type,
        "content_encoding": found.content_encoding,
    }
    fields = {"url": found.url, "fetched_at": found.date, "body": found.body}
    return Record(position, fields | {name: value for name, value in said.items() if value is not None})
