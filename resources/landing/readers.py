"""Readers of landed files, chosen by folder and file ending. Each yields the records of any container."""

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial, wraps
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, ParamSpec, cast
from urllib.parse import quote

import pyarrow as pa

from resources.landing import warc
from resources.landing.corpora import Corpus
from resources.landing.records import Fields, Record, parse_line
from signals.documents.domains import domain
from signals.documents.supply_chain import ads_txt, sellers_json

# Yields the records of a file, given the limit of bytes of one.
Read = Callable[[Path, int], Iterator[Record]]
P = ParamSpec("P")

# Endings that each folder's files may have, without .gz or .zst.
EVENTS = (".jsonl", ".ndjson")
FOLDERS: dict[str, tuple[str, ...]] = {
    "api_decisions": (".jsonl",),
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
MEDIA = {".html": "text/html", ".htm": "text/html", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
# Address and time of a saved page, in the comment that SingleFile writes.
SAVED_PAGE = re.compile(
    rb"<!--[^>]*?\surl: (?P<url>\S+)(?:\s[^>]*?saved date: (?P<date>\w{3} \w{3} \d\d? \d{4} [\d:]{8} GMT[+-]\d{4}))?"
)
# Errors that a damaged file raises, whatever its container, or a corpus file of another shape.
DAMAGE_ERRORS = (OSError, EOFError, zlib.error, csv.Error, ValueError, LookupError, TypeError, AttributeError)


def has_reader(path: PurePath, folder: str) -> bool:
    """Return whether a file, by its path below the landing folder, has a reader: by its ending, and if not hidden."""
    return _unpacked(path).endswith(FOLDERS[folder]) and not any(part.startswith((".", "_")) for part in path.parts)


def reader(path: PurePath, folder: str, written: Callable[[Path], int]) -> Read:
    """Return the reader of a file.

    Args:
        path: its path below the landing folder.
        folder: kind of its records, a key of ``FOLDERS``.
        written: returns when a file was put at its path, in milliseconds since 1970.
    """
    if folder == "supply_chain":
        return partial(read_declarations, declared_by=path.parent.name, written=written)
    ending = _ending(path)
    if ending in EVENTS:
        return read_lines
    return read_warc if ending == ".warc" else partial(read_whole, url=f"file:///{quote(os.fsencode(path))}")


def _unpacked(path: PurePath) -> str:
    return (path.with_suffix("") if path.suffix in PACKED else path).as_posix().lower()


def _ending(path: PurePath) -> str:
    return PurePosixPath(_unpacked(path)).suffix


def _unpack(path: Path) -> IO[bytes]:
    """Open a plain, gzip or zstd file as a stream of bytes."""
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        # Arrow's reader: zstandard's does not notice a truncated file. It gets an open file, for it opens none whose
        # name is not UTF-8.
        return io.BufferedReader(pa.CompressedInputStream(path.open("rb"), "zstd"))
    return path.open("rb")


def _until_damage(read: Callable[P, Iterator[Record]]) -> Callable[P, Iterator[Record]]:
    """Make a reader of a damaged file end with a ``corrupt_file`` record instead of an error."""

    @wraps(read)
    def records(*args: P.args, **kwargs: P.kwargs) -> Iterator[Record]:
        position = 0
        try:
            for record in read(*args, **kwargs):
                position = record.position
                yield record
        except DAMAGE_ERRORS as error:
            yield Record(position + 1, broken="corrupt_file", raw=f"{type(error).__name__}: {error}"[:500])

    return records


@_until_damage
def read_lines(path: Path, max_bytes: int) -> Iterator[Record]:
    """Yield JSON lines unparsed: they are parsed where they become rows. A last line without an end is checked here."""
    position = 0
    with _unpack(path) as file:
        while line := file.readline(max_bytes + 1):
            position += 1
            if len(line) > max_bytes:
                beginning = line[:500].decode("utf-8", "replace")
                while line and not line.endswith(b"\n"):
                    line = file.readline(1 << 20)
                yield Record(position, broken="too_large", raw=beginning)
            elif not line.isspace():
                record = Record(position, None, None, None, line)  # a named argument would cost half as much again
                parsed = record if line.endswith(b"\n") else parse_line(line, position)
                unfinished = parsed.broken in ("not_json", "not_utf8")
                yield parsed._replace(broken="unfinished_line") if unfinished else record


@_until_damage
def read_whole(path: Path, max_bytes: int, url: str) -> Iterator[Record]:
    """Read a file that is one page or picture. Its address is the one that a saved page names, else ``url``."""
    with _unpack(path) as file:
        body = file.read(max_bytes + 1)
    if len(body) > max_bytes:
        yield Record(1, broken="too_large", raw=path.name)
    else:
        media = MEDIA.get(_ending(path), f"image/{_ending(path)[1:]}")
        yield Record(1, {"url": url, "content_type": media, "body": body, **_saved_page(body)})


def _saved_page(body: bytes) -> Fields:
    """Return the address and time in a saved page's comment."""
    comment = SAVED_PAGE.search(body[:4_096])
    if comment is None:
        return {}
    fields: Fields = {"url": comment["url"].decode("utf-8", "replace")}
    with suppress(ValueError):
        timestamp = datetime.strptime((comment["date"] or b"").decode("ascii"), "%a %b %d %Y %H:%M:%S GMT%z")
        fields["fetched_at"] = timestamp.isoformat()
    return fields


@_until_damage
def read_declarations(path: Path, max_bytes: int, declared_by: str, written: Callable[[Path], int]) -> Iterator[Record]:
    """Read the ads.txt of a site, or the sellers.json of an exchange, given its domain."""
    (document, declarations), owner, fetched_at = DOCUMENTS[_ending(path)], domain(declared_by), written(path)
    with _unpack(path) as file:
        body = file.read(max_bytes + 1)
    if owner is None or len(body) > max_bytes:
        yield Record(1, broken="too_large" if owner else "not_a_domain:declared_by", raw=path.name)
        return
    common = {"declared_by": owner, "document": document, "fetched_at": fetched_at}
    for declaration in declarations(body):
        fields = None if declaration.fields is None else {**common, "line": declaration.line, **declaration.fields}
        yield Record(declaration.line, fields, declaration.broken, declaration.raw)


@_until_damage
def read_warc(path: Path, max_bytes: int) -> Iterator[Record]:
    """Read the responses of a WARC file (ISO 28500)."""
    with _unpack(path) as file:
        for position, response in enumerate(warc.responses(file, max_bytes), 1):
            if response.broken:
                yield Record(position, broken=response.broken, raw=response.url)
                continue
            headers = {name: getattr(response, name) for name in ("http_status", "content_type", "content_encoding")}
            fields = {"url": response.url, "fetched_at": response.date, "body": response.body}
            yield Record(position, fields | {name: value for name, value in headers.items() if value is not None})


@_until_damage
def read_corpus(path: Path, max_bytes: int, corpus: Corpus, root: Path) -> Iterator[Record]:
    """Read a file of a research corpus, given the landing folder."""
    for position, fields in enumerate(corpus.records(path, root), 1):
        size = sum(len(value) for value in fields.values() if isinstance(value, (str, bytes)))
        yield Record(position, broken="too_large", raw=path.name) if size > max_bytes else Record(position, fields)
