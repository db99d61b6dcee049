"""Files as they land: found by folder, opened whatever their container, read record by record."""

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, NamedTuple, Never, Protocol, Self, cast
from urllib.parse import quote

import msgspec
import pyarrow as pa

from resources import corpora, warc
from resources.corpora import Fields
from signals.supply_chain import BOM, ads_txt, domain, sellers_json

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
PACKED = (".gz", ".zst")
DOCUMENTS = {".txt": ("ads.txt", ads_txt), ".json": ("sellers.json", sellers_json)}
SAVED = re.compile(
    rb"<!--[^>]*?\surl: (?P<url>\S+)(?:\s[^>]*?saved date: (?P<date>\w{3} \w{3} \d\d? \d{4} [\d:]{8} GMT[+-]\d{4}))?"
)
MEDIA = {".html": "text/html", ".htm": "text/html", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


class Record(NamedTuple):
    """One record of a file or topic.

    Attributes:
        position: its place in the file: line, or number of the record, from 1; in a file that is replaced as a whole
            after ``version``, so that each version continues where the one before it ended.
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


class Landed(Protocol):
    """A file that has landed, wherever that is; ``name`` names the source in every table, as its path below."""

    @property
    def name(self) -> str:
        """Path below the landing folder."""
        ...

    @property
    def size(self) -> int:
        """Bytes, which grow with its records; of a file that is replaced as a whole, when it was written."""
        ...

    def records(self, max_bytes: int) -> Iterator[Record]:
        """Yield its records, of each of which ``max_bytes`` are read at most.

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
    def size(self) -> int:
        """Bytes on disk, which grow with its records; of a file that is replaced as a whole, when it was written."""
        found = self.path.stat()
        return found.st_mtime_ns if self.folder in REPLACED else found.st_size

    def records(self, max_bytes: int) -> Iterator[Record]:
        """See ``Landed``."""
        return self.read(self.path, max_bytes)


def landed_files(root: Path, folder: str) -> list[LandedFile]:
    """Return the files of one kind below a landing folder, in order of their names; none if it has none."""
    found = [
        LandedFile(folder, path.relative_to(root).as_posix(), path, reader(path, folder, version))
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and is_landed(path.relative_to(root), folder)
    ]
    if folder == "supply_chain":
        found += [
            LandedFile(folder, name, root / name, _declarations(whose, version))
            for name, whose in corpora.DECLARED_BY.items()
            if (root / name).is_file()
        ]
    for corpus in corpora.CORPORA:
        if corpus.folder == folder:
            found += [
                LandedFile(folder, path.relative_to(root).as_posix(), path, _corpus_reader(corpus, root))
                for path in sorted(root.glob(corpus.files))
            ]
    return found


def version(path: Path) -> int:
    """Return when a file came to lie where it is: nanoseconds since 1970, whose last six digits are zero.

    Unlike the time at which it was written, this is later for each version, also where an older one is put back.
    """
    return path.stat().st_ctime_ns // 10**6 * 10**6


def unpack(path: Path) -> IO[bytes]:
    """Open a plain, gzip or zstd file as a stream of bytes."""
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        # Arrow's reader, since zstandard's takes a file that is cut short for one that ends there.
        return io.BufferedReader(pa.CompressedInputStream(str(path), "zstd"))
    return path.open("rb")


def is_landed(path: PurePath, folder: str) -> bool:
    """Say of a path below the landing folder whether such a file is read, as its ending and no hidden part say."""
    return _unpacked(path).endswith(FOLDERS[folder]) and not any(part.startswith((".", "_")) for part in path.parts)


def _unpacked(path: PurePath) -> str:
    return (path.with_suffix("") if path.suffix in PACKED else path).as_posix().lower()


def _ending(path: PurePath) -> str:
    return PurePosixPath(_unpacked(path)).suffix


def reader(path: PurePath, folder: str, written: Callable[[Path], int]) -> Callable[[Path, int], Iterator[Record]]:
    """Return what reads a file that has landed at a path; ``written`` returns its version (see ``version``)."""
    if folder == "supply_chain":
        return _declarations(path.parent.name, written)
    ending = _ending(path)
    if ending in EVENTS:
        return read_lines
    return read_warc if ending == ".warc" else read_whole


def _corpus_reader(corpus: "corpora.Corpus", root: Path) -> Callable[[Path, int], Iterator[Record]]:
    def read(path: Path, max_bytes: int) -> Iterator[Record]:  # noqa: ARG001
        with _survived(0) as fault:
            for position, fields in enumerate(corpus.records(path, root), 1):
                fault.position = position
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
    """Read JSON lines; a line that is no JSON object is a record with the rule it breaks."""
    with _survived(0) as fault, unpack(path) as file:
        while line := file.readline(max_bytes + 1):
            fault.position += 1
            if len(line) > max_bytes:
                beginning = line[:500].decode("utf-8", "replace")
                while line and not line.endswith(b"\n"):
                    line = file.readline(1 << 20)
                yield Record(fault.position, broken="too_large", raw=beginning)
            elif line.strip():
                record = parse(line, fault.position)
                unfinished = record.broken in ("not_json", "not_utf8") and not line.endswith(b"\n")
                yield record._replace(broken="unfinished_line") if unfinished else record
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


def read_whole(path: Path, max_bytes: int) -> Iterator[Record]:
    """Read a file that is one page or one picture; its address is the one that the page itself names, if any."""
    with _survived(0) as fault, unpack(path) as file:
        body = file.read(max_bytes + 1)
        if len(body) > max_bytes:
            yield Record(1, broken="too_large", raw=path.name)
        else:
            media = MEDIA.get(_ending(path), f"image/{_ending(path)[1:]}")
            # Of bytes, for a file may have a name that is no UTF-8.
            url = f"file:///{quote(os.fsencode(path.name))}"
            yield Record(1, {"url": url, "content_type": media, "body": body, **_saved(body)})
    yield from fault.records()


def _declarations(declared_by: str, written: Callable[[Path], int]) -> Callable[[Path, int], Iterator[Record]]:
    """Return what reads the ads.txt of a site, or the sellers.json of an exchange, given its domain."""

    def read(path: Path, max_bytes: int) -> Iterator[Record]:
        (document, declarations), before, whose = DOCUMENTS[_ending(path)], written(path), domain(declared_by)
        with _survived(before) as fault, unpack(path) as file:
            body = file.read(max_bytes + 1)
            if whose is None or len(body) > max_bytes:
                yield Record(before + 1, broken="too_large" if whose else "not_a_domain:declared_by", raw=path.name)
                return
            common = {"declared_by": whose, "document": document, "fetched_at": before // 10**6}
            for one in declarations(body):
                fields = None if one.fields is None else {**common, "line": one.line, **one.fields}
                yield Record(before + one.line, fields, one.broken, one.raw)
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
