"""A bucket in which files land: new files are found with a bounded number of requests.

A store shows an object once its upload is complete, so no file is read half written. It lists objects in the order of
their names only, and a new name may sort anywhere. So there are two ways to list:

- The ranges where new names are likely (``likely_ranges``): after the last name, and after recent names between older
  ones, as where several writers each name files by time. This costs one request a range.
- All names, at most once an hour (``FULL_LISTING_MS``).

The full listing finds every file within the hour, whatever its name; the ranges find most at the next look. A folder of
up to ``LOOK_BACK`` files is listed as a whole each time, by one request or two.

That no file is read twice does not depend on the listing. The ledger holds each file's position, listed state and
digest. So a replaced object is noticed whatever its size, and read on if it begins as its predecessor did.
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

# Known names before a range that are listed again, for names that come a little late: one request's worth.
LOOK_BACK = 1_000
# Ranges that are listed; names in others wait for the full listing.
MAX_RANGES = 8
# Milliseconds between two full listings.
FULL_LISTING_MS = 3_600_000
ATTEMPTS = 5
# The names after the first, up to the second or to the end.
NameRange = tuple[str, str | None]
ALL_NAMES: list[NameRange] = [("", None)]


class NoBucketError(SourceError):
    """The bucket does not exist."""


@dataclass(frozen=True)
class BucketObject:
    """A file that has landed in a bucket: see ``LandingFile``.

    Attributes:
        bucket: its bucket.
        folder: kind of its records, a key of ``readers.FOLDERS``.
        name: its key without the bucket's prefix.
        etag: identity of its content.
        length: its size in bytes.
        written: when it was written.
    """

    bucket: "Bucket"
    folder: str
    name: str
    etag: str
    length: int
    written: datetime

    @property
    def state(self) -> int:
        """See ``LandingFile``. The same bytes written again change it only in a folder of ``REPLACED``."""
        return state_number(self.etag, self.length, *([self.written] if self.folder in REPLACED else []))

    def records(self, max_bytes: int) -> Iterator[Record]:
        """See ``LandingFile``. A local copy is read, so that a failing store is not taken for a damaged file.

        Raises:
            ReplacedError: the object was replaced or deleted.
            SourceError: the store does not answer, or refuses.
        """
        if self.folder in REPLACED:
            # Many stores date objects by the second only: wait, so that only the last version of a second is read.
            time.sleep(min(1.0, max(0.0, self.written.timestamp() + 1 - time.time())))
        path = PurePosixPath(self.name)
        with TemporaryDirectory() as folder:
            # A key may be longer than a file name may be.
            copy = Path(folder, path.name.encode()[-200:].decode("utf-8", "ignore"))
            self.bucket.download(self, copy)
            written = round(self.written.timestamp() * 1_000)
            yield from reader(path, self.folder, lambda _: written)(copy, max_bytes)


class Bucket:
    """The objects under one prefix of a bucket."""

    def __init__(self, uri: str, settings: Settings, *, attempts: int = ATTEMPTS) -> None:
        self.uri, self._settings, self._attempts = uri, settings, attempts
        self._name, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def folders(self) -> set[str]:
        """Return the names of the folders directly under the prefix.

        Raises:
            SourceError: the store does not answer, or refuses; ``NoBucketError`` if there is no such bucket.
        """
        pages = self._pages(Prefix=self._prefix, Delimiter="/")
        return {entry["Prefix"].split("/")[-2] for page in pages for entry in page.get("CommonPrefixes", [])}

    def files(self, folder: str, ranges: Iterable[NameRange]) -> Iterator[BucketObject]:
        """Yield the files of one folder whose names are in some ranges, in the store's order.

        Raises:
            SourceError: see ``folders``.
        """
        for after, until in ranges:
            start = {"StartAfter": self._prefix + after} if after else {}
            pages = self._pages(Prefix=f"{self._prefix}{folder}/", **start)
            for entry in (entry for page in pages for entry in page.get("Contents", [])):
                name = entry["Key"].removeprefix(self._prefix)
                if until is not None and name > until:
                    break
                if has_reader(PurePosixPath(name), folder):
                    yield BucketObject(self, folder, name, entry["ETag"], entry["Size"], entry["LastModified"])

    def download(self, file: BucketObject, path: Path) -> None:
        """Copy a file to a path.

        Raises:
            ReplacedError: the object was replaced or deleted.
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
    def _one_line_errors(self, address: str) -> Generator[None]:
        """Turn the store's errors into one line without their own text, which may hold a secret."""
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "NoSuchBucket":
                raise NoBucketError(f"there is no bucket {self._name}") from None
            raise SourceError(f"cannot read {address}, which LANDING names: {code}") from None
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            raise SourceError(f"cannot read {address}, which LANDING names: {type(error).__name__}") from None


def likely_ranges(read_at: Mapping[str, datetime]) -> list[NameRange]:
    """Return the ranges in which new names are likely, in the order of names.

    A new name is likely after one that was read later than its successor: where writers name files by time, after the
    last name of each writer. The ranges start ``LOOK_BACK`` names before the last name of all, and before the most
    recent of the others.

    Args:
        read_at: when each known name was read.
    """
    names = sorted(read_at)
    ends = [index for index in range(len(names) - 1) if read_at[names[index]] > read_at[names[index + 1]]]
    recent = sorted(heapq.nlargest(MAX_RANGES - 1, ends, key=lambda index: read_at[names[index]]))
    ranges: list[NameRange] = []
    last = -1
    for end in [*recent, len(names) - 1]:
        start = end - LOOK_BACK
        until = names[end + 1] if end + 1 < len(names) else None
        if ranges and start <= last:
            ranges[-1] = (ranges[-1][0], until)
        else:
            ranges.append((names[start] if start >= 0 else "", until))
        last = end + 1
    return ranges
