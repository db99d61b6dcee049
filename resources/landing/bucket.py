"""A bucket in which files land: what is new is found with bounded work, and each file is read when it is whole.

An object is there once it is whole, an upload in parts once it is completed: none is read half written. A bucket gives
its objects in the order of their names only, and a new one may come anywhere in it. So there are two ways to look:

- where new names are likely (``stretches``): behind the last known one, and behind those that came lately between
  older ones, as where several writers each name their files by the time. This costs a request for each such place.
- at everything, where that has not been done for an hour (``EVERY``).

It is the second that lets no file be missed, whatever its name: it is found within the hour, where the first finds
most at the next look. A folder of up to ``LOOK_BACK`` files is looked at as a whole each time, by one request or two.

That no file is read twice does not depend on this: the ledger has how far each has been read, what the listing said of
it then, and a digest of what it held. So an object in whose place another comes is noticed, of whatever size, and read
on if it begins as the former one did.
"""

import heapq
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from resources.landing.readers import REPLACED, has_reader, reader
from resources.landing.records import Record, ReplacedError, state_number
from resources.settings import Settings
from resources.sources.incremental import SourceError

# Known names that are looked at again before a place: as many as one request gives, for what comes a little late.
LOOK_BACK = 1_000
# Places that are looked at; others wait until everything is.
PLACES = 8
# Milliseconds after which everything is looked at again.
EVERY = 3_600_000
ATTEMPTS = 5
# The names after one, and up to another, or to the end.
Stretch = tuple[str, str | None]
EVERYTHING: list[Stretch] = [("", None)]


class NoBucketError(SourceError):
    """The bucket does not exist."""


@dataclass(frozen=True)
class BucketObject:
    """A file that has landed in a bucket: see ``LandingFile``.

    Attributes:
        bucket: where it is.
        folder: which kind of record it holds, a key of ``readers.FOLDERS``.
        name: its key without the bucket's prefix.
        etag: names its content.
        length: its bytes.
        written: when it came to be.
    """

    bucket: "Bucket"
    folder: str
    name: str
    etag: str
    length: int
    written: datetime

    @property
    def state(self) -> int:
        """See ``LandingFile``; the same bytes written again are no news, but for what is replaced as a whole."""
        return state_number(self.etag, self.length, *([self.written] if self.folder in REPLACED else []))

    def records(self, max_bytes: int) -> Iterator[Record]:
        """See ``LandingFile``; a copy is read, so that a store that fails half-way is not taken for a damaged file.

        Raises:
            ReplacedError: another has come in its place, or none.
            SourceError: the store does not answer, or says no.
        """
        if self.folder in REPLACED:
            # Many stores tell the second only, so of the versions of one second only the last may be read.
            time.sleep(min(1.0, max(0.0, self.written.timestamp() + 1 - time.time())))
        path = PurePosixPath(self.name)
        with TemporaryDirectory() as folder:
            # A key may have more bytes than the name of a file.
            copy = Path(folder, path.name.encode()[-200:].decode("utf-8", "ignore"))
            self.bucket.download(self, copy)
            written = round(self.written.timestamp() * 1_000)
            yield from reader(path, self.folder, lambda _: written)(copy, max_bytes)


class Bucket:
    """The objects below one prefix of a bucket."""

    def __init__(self, uri: str, settings: Settings, *, attempts: int = ATTEMPTS) -> None:
        self.uri, self._settings, self._attempts = uri, settings, attempts
        self._name, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def folders(self) -> set[str]:
        """Return the names of the folders right below the prefix.

        Raises:
            SourceError: the store does not answer, or says no; ``NoBucketError`` if there is no such bucket.
        """
        pages = self._pages(Prefix=self._prefix, Delimiter="/")
        return {entry["Prefix"].split("/")[-2] for page in pages for entry in page.get("CommonPrefixes", [])}

    def files(self, folder: str, among: Iterable[Stretch]) -> Iterator[BucketObject]:
        """Yield the files of one kind whose names are in some stretches, in the store's order.

        Raises:
            SourceError: see ``folders``.
        """
        for after, until in among:
            start = {"StartAfter": self._prefix + after} if after else {}
            pages = self._pages(Prefix=f"{self._prefix}{folder}/", **start)
            for entry in (entry for page in pages for entry in page.get("Contents", [])):
                name = entry["Key"].removeprefix(self._prefix)
                if until is not None and name > until:
                    break
                if has_reader(PurePosixPath(name), folder):
                    yield BucketObject(self, folder, name, entry["ETag"], entry["Size"], entry["LastModified"])

    def download(self, file: BucketObject, path: Path) -> None:
        """Write a file to a path.

        Raises:
            ReplacedError: another has come in its place, or none.
            SourceError: see ``folders``.
        """
        with self._one_line_errors(f"{self.uri}/{file.name}"), path.open("wb") as copy:
            try:
                answer = self._client.get_object(Bucket=self._name, Key=self._prefix + file.name, IfMatch=file.etag)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 412):
                    raise ReplacedError(file.name) from None
                raise
            shutil.copyfileobj(answer["Body"], copy, 1 << 20)

    def _pages(self, **query: str) -> Iterator[dict[str, Any]]:
        with self._one_line_errors(self.uri):
            yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, **query)

    @cached_property
    def _client(self) -> Any:
        return boto3.client(
            "s3",
            region_name=self._settings.aws_region,
            endpoint_url=self._settings.aws_endpoint_url,
            config=Config(
                connect_timeout=5,
                read_timeout=20,
                retries={"total_max_attempts": self._attempts, "mode": "standard"},
            ),
        )

    @contextmanager
    def _one_line_errors(self, what: str) -> Generator[None]:
        """Say in one line why something cannot be read, without what the store says, which may hold a secret."""
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "NoSuchBucket":
                raise NoBucketError(f"there is no bucket {self._name}") from None
            raise SourceError(f"cannot read {what}, which LANDING names: {code}") from None
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            raise SourceError(f"cannot read {what}, which LANDING names: {type(error).__name__}") from None


def stretches(read: Mapping[str, datetime]) -> list[Stretch]:
    """Return the stretches of the order of names in which new ones are likely, in that order.

    New names come behind one that was read later than the one that follows it: with names that go by the time, behind
    the last of each writer. The last name of all and the latest of the others count, each with ``LOOK_BACK`` before it.

    Args:
        read: of each known name, when it was read.
    """
    names = sorted(read)
    ends = [at for at in range(len(names) - 1) if read[names[at]] > read[names[at + 1]]]
    chosen = sorted(heapq.nlargest(PLACES - 1, ends, key=lambda at: read[names[at]]))
    likely: list[Stretch] = []
    reached = -1
    for at in [*chosen, len(names) - 1]:
        after = at - LOOK_BACK
        until = names[at + 1] if at + 1 < len(names) else None
        if likely and after <= reached:
            likely[-1] = (likely[-1][0], until)
        else:
            likely.append((names[after] if after >= 0 else "", until))
        reached = at + 1
    return likely
