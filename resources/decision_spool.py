"""The API's decisions on their way to silver/decisions: files that only grow, and that survive a kill."""

import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

# Below the spool; the name of the landing folder that bronze/api_decisions reads.
FOLDER = "api_decisions"
# A larger file is left, and another begun.
MAX_BYTES = 64 << 20


class DecisionSpool:
    """A file of JSON lines of this process's own, so that no other process writes into it.

    A line that a kill has cut off is the last of its file: nobody was answered by it, and it goes to quarantine.

    Args:
        root: the spool's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = self._opened()

    def append(self, records: Iterable[Any]) -> None:
        """Write records; once this returns, a kill does not lose them, nor does a loss of power."""
        if self._file.tell() > MAX_BYTES:
            self._file.close()
            self._file = self._opened()
        self._file.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _opened(self) -> Any:
        name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(4)}.jsonl"
        file = (self._folder / name).open("xb")
        # The folder has to know the file as well.
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return file
