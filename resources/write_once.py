"""Places in which a numbered text is put once, by whoever comes first, and stays: a folder, or a bucket."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from resources.settings import Settings


class WriteOnceError(OSError):
    """The place cannot be read or written."""


class Folder:
    """Texts in a folder, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, number: int, text: str) -> bool:
        """Put a text unless its number is taken, and say so; neither a kill nor a loss of power leaves half of it.

        Raises:
            WriteOnceError: it cannot be written.
        """
        path = self._folder / _name(number)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            written = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
            descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                path.hardlink_to(written)
            finally:
                written.unlink()
            folder = os.open(self._folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except FileExistsError:
            if path.is_file():
                return False
            raise WriteOnceError(f"{self._folder} is no folder") from None
        except OSError as error:
            raise WriteOnceError(f"{self._folder} cannot be written: {error.strerror}") from None
        return True

    def get(self, number: int) -> str | None:
        """Return the text of a number; None if there is none."""
        try:
            return (self._folder / _name(number)).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def all(self) -> dict[int, str]:
        """Return every text by its number."""
        numbers = sorted(int(path.stem) for path in self._folder.glob("*.json"))
        return {number: self.get(number) or "" for number in numbers}


class Bucket:
    """Texts in a bucket, an object each. Object Lock of the bucket keeps them from whoever may write there."""

    def __init__(self, uri: str, settings: Settings) -> None:
        self._uri, self._settings = uri, settings
        self._name, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def put(self, number: int, text: str) -> bool:
        """See ``Folder``."""
        from botocore.exceptions import ClientError

        with self._one_line_errors():
            try:
                where = {"Bucket": self._name, "Key": self._prefix + _name(number)}
                self._client.put_object(**where, Body=text.encode(), IfNoneMatch="*")
            except ClientError as error:
                # 409: another put of it is under way.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                    return False
                raise
        return True

    def get(self, number: int) -> str | None:
        """See ``Folder``."""
        with self._one_line_errors():
            try:
                found = self._client.get_object(Bucket=self._name, Key=self._prefix + _name(number))
            except self._client.exceptions.NoSuchKey:
                return None
            return found["Body"].read().decode("utf-8", "replace")

    def all(self) -> dict[int, str]:
        """See ``Folder``."""
        with self._one_line_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=self._prefix)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        numbers = sorted(int(Path(key).stem) for key in keys)
        return {number: self.get(number) or "" for number in numbers}

    @cached_property
    def _client(self) -> Any:
        import boto3

        return boto3.client("s3", region_name=self._settings.aws_region, endpoint_url=self._settings.aws_endpoint_url)

    @contextmanager
    def _one_line_errors(self) -> Generator[None]:
        """Turn the store's errors into one line without their own text, which may hold a secret."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise WriteOnceError(f"{self._uri} cannot be used: {type(error).__name__}") from None


def write_once(place: str, settings: Settings) -> Folder | Bucket:
    """Return the place at an address."""
    return Bucket(place, settings) if place.startswith("s3://") else Folder(Path(place))


def _name(number: int) -> str:
    return f"{number:012}.json"
