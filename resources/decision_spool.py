"""The API's decisions on their way to silver/decisions: files that only grow until they are sealed, and survive a kill.

Its writer and ``seal`` lock a file. A sealed file may not be written to, and its writer begins another: so whoever has
read it to its end may delete it.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

# Below the spool; the name of the landing folder that bronze/api_decisions reads.
FOLDER = "api_decisions"
# A larger file is left, and another begun.
MAX_BYTES = 64 << 20
SEALED = 0o400


class DecisionSpool:
    """A file of JSON lines of this process's own, so that no other process writes into it.

    A line that a kill has cut off is the last of its file: nobody was answered by it, and it goes to quarantine.

    Args:
        root: the spool's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file, self._alone = self._opened(), Lock()

    def append(self, records: Iterable[Any]) -> None:
        """Write records; once this returns, a kill does not lose them, nor does a loss of power."""
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        with self._alone:
            while not self._locked():
                self._file.close()
                self._file = self._opened()
            try:
                self._file.write(lines)
                self._file.flush()
                os.fdatasync(self._file.fileno())
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _locked(self) -> bool:
        """Lock the file; return whether it may be written to."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self._file.tell() <= MAX_BYTES and not _is_sealed(self._file.fileno())

    def _opened(self) -> Any:
        name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(4)}.jsonl"
        file = (self._folder / name).open("xb")
        # The folder has to know the file as well.
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return file


def seal(root: Path) -> None:
    """Have every file of a spool be written to no more.

    Args:
        root: the spool's folder.
    """
    for path in sorted((root / FOLDER).glob("*.jsonl")):
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_sealed(file.fileno()):
                os.fchmod(file.fileno(), SEALED)


def _is_sealed(file: int) -> bool:
    return not os.fstat(file).st_mode & stat.S_IWUSR
