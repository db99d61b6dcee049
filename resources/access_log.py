"""Where the log of access is kept: a file that only grows, and a second store of its heads, which stay."""

import fcntl
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from governance.access import Identity
from governance.access_log import Access, Head, faults, head_of, line_after
from resources.settings import Settings

FILE = "access.jsonl"
# Bytes at the file's end that hold its last line; a longer line is found by reading more.
TAIL = 64 << 10


class AccessLogError(OSError):
    """The log or its anchors cannot be read or written, or were tampered with: nothing is answered until they can."""


@dataclass
class Answer:
    """What comes of a question, as far as it is known: the tables that it is about, and the number of rows."""

    tables: Sequence[str] = ()
    rows: int = 0


class AccessLog:
    """The log of one installation.

    Args:
        settings: those of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = settings.access_log / FILE
        self.anchors = anchors(settings)
        self._key = settings.access_log_key.get_secret_value().encode() if settings.access_log_key else None

    @contextmanager
    def recorded(self, asks: Identity, door: str, question: str, query: str | None = None) -> Generator[Answer]:
        """Record a question once its answer is there, before it is handed out; also one that fails.

        Raises:
            AccessLogError: see ``add``.
        """
        answer = Answer()

        def add(outcome: str, rows: int) -> None:
            more = {"tables": tuple(answer.tables), "rows": rows, "outcome": outcome, "query": query}
            self.add(Access.of(asks, door, question, self._key, **more))

        try:
            yield answer
        except Exception as error:
            add(type(error).__name__, 0)
            raise
        add("answered", answer.rows)

    def add(self, access: Access) -> Head:
        """Add a line, and anchor it. Once this returns, neither a kill nor a loss of power loses it.

        Raises:
            AccessLogError: the log cannot be written, or its end is not the one that was anchored.
        """
        with self._alone() as file:
            last = self._last(file)
            if last is not None:
                # The writer of the last line may have been killed before it was anchored.
                self.anchors.put(last)
            if self.anchors.has(last.number + 1 if last else 1):
                raise AccessLogError(f"the end of {self.path} was cut off: see `seamless audit verify`")
            line = line_after(last, access, datetime.now(UTC), self._key)
            file.seek(0, os.SEEK_END)
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
            head = head_of(line)
            self.anchors.put(head)
            return head

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        if self.path.exists():
            with self.path.open(encoding="utf-8", errors="replace") as file:
                yield from (line.removesuffix("\n") for line in file)

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the log."""
        with self._alone():
            yield from faults(self.lines(), self.anchors.all(), self._key)

    @property
    def signed(self) -> bool:
        """Whether there is a key, without which whoever can write both stores can write another log."""
        return self._key is not None

    def _last(self, file: BinaryIO) -> Head | None:
        """Return the head of the file, without a last line that a kill has cut off: nobody was answered by it."""
        size, read = file.seek(0, os.SEEK_END), TAIL
        while True:
            file.seek(max(0, size - read))
            tail = file.read()
            if read >= size or tail.count(b"\n") > 1:
                break
            read *= 2
        whole, _, cut_off = tail.rpartition(b"\n")
        if cut_off:
            file.truncate(size - len(cut_off))
        try:
            return head_of(whole.rpartition(b"\n")[2].decode()) if whole else None
        except ValueError:
            raise AccessLogError(f"the last line of {self.path} is broken: see `seamless audit verify`") from None

    @contextmanager
    def _alone(self) -> Generator[BinaryIO]:
        """Yield the file, which no other process has meanwhile.

        Raises:
            AccessLogError: it cannot be opened.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise AccessLogError(f"the access log {self.path} cannot be written: {error.strerror}") from None
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


class FolderAnchors:
    """Heads in a folder, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, head: Head) -> None:
        """Put a head; one that is there stays.

        Raises:
            AccessLogError: another head of that number is there, or none can be written.
        """
        path = self._folder / _name(head.number)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # A kill leaves no half of a head under its name.
            written = path.with_suffix(f".{os.getpid()}")
            with written.open("w", encoding="utf-8") as file:
                file.write(head.dump())
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(written, path)
            except FileExistsError:
                _require_same(head, path.read_text(encoding="utf-8"))
            finally:
                written.unlink()
        except AccessLogError:
            raise
        except OSError as error:
            raise AccessLogError(f"heads of the access log cannot be anchored: {error.strerror}") from None

    def has(self, number: int) -> bool:
        """Say whether the head of a number is there."""
        return (self._folder / _name(number)).exists()

    def all(self) -> dict[int, str]:
        """Return every head by its number."""
        return {int(path.stem): path.read_text(encoding="utf-8") for path in self._folder.glob("*.json")}


class BucketAnchors:
    """Heads in a bucket, an object each. Object Lock of the bucket keeps them from whoever may write."""

    def __init__(self, uri: str, settings: Settings) -> None:
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix, self._settings = f"{prefix}/" if prefix else "", settings

    def put(self, head: Head) -> None:
        """See ``FolderAnchors``."""
        with _one_line_errors():
            if (held := self._get(head.number)) is not None:
                _require_same(head, held)
            else:
                body, name = head.dump().encode(), self._prefix + _name(head.number)
                self._client.put_object(Bucket=self._bucket, Key=name, Body=body, IfNoneMatch="*")

    def has(self, number: int) -> bool:
        """See ``FolderAnchors``."""
        with _one_line_errors():
            return self._get(number) is not None

    def all(self) -> dict[int, str]:
        """See ``FolderAnchors``."""
        with _one_line_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            numbers = [int(key.removeprefix(self._prefix).removesuffix(".json")) for key in keys]
            return {number: self._get(number) or "" for number in numbers}

    def _get(self, number: int) -> str | None:
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + _name(number))
        except self._client.exceptions.NoSuchKey:
            return None
        return found["Body"].read().decode()

    @cached_property
    def _client(self) -> Any:
        import boto3

        return boto3.client("s3", region_name=self._settings.aws_region, endpoint_url=self._settings.aws_endpoint_url)


def anchors(settings: Settings) -> FolderAnchors | BucketAnchors:
    """Return the second store."""
    place = settings.access_anchors
    return BucketAnchors(place, settings) if place.startswith("s3://") else FolderAnchors(Path(place))


def _name(number: int) -> str:
    return f"{number:012}.json"


def _require_same(head: Head, held: str) -> None:
    if held != head.dump():
        line = f"line {head.number} of the access log"
        raise AccessLogError(f"{line} is not the one that was anchored: see `seamless audit verify`")


@contextmanager
def _one_line_errors() -> Generator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise AccessLogError(f"the anchors of the access log cannot be used: {type(error).__name__}") from None
