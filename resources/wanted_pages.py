"""Addresses of pages that the API was asked for and does not know, for whoever fetches pages. The API never does.

Each process of the API writes a file of JSON lines a day: ``tenant_id``, ``url`` and ``wanted_at``. Whoever has read a
file of an earlier day may delete it.
"""

import json
import logging
import secrets
from datetime import date, datetime
from pathlib import Path
from typing import IO

from signals.documents.addresses import addresses
from signals.documents.urls import WEB

# Addresses of a day; those that come later are left out.
MOST = 100_000


class WantedPages:
    """The wanted pages of one process, each once a day.

    Args:
        folder: where the files are.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._day = folder, date.min
        self._seen = set[tuple[str, str]]()
        self._file: IO[str] | None = None

    def add(self, tenant_id: str, url: str, now: datetime) -> None:
        """Note an address. One that cannot be written is left out with a warning: nobody waits for it."""
        if now.date() != self._day:
            self.close()
            self._day, self._seen = now.date(), set()
        wanted = tenant_id, addresses(url)[0]
        if wanted in self._seen or not wanted[1].startswith(WEB) or len(self._seen) >= MOST:
            return
        self._seen.add(wanted)
        if len(self._seen) == MOST:
            logging.getLogger(__name__).warning("%s wanted pages today: more are left out", f"{MOST:,}")
        line = {"tenant_id": tenant_id, "url": wanted[1], "wanted_at": now.isoformat()}
        try:
            if self._file is None:
                name = f"{self._day}-{secrets.token_hex(4)}.jsonl"
                self._file = (self._folder / name).open("x", encoding="utf-8", errors="replace", buffering=1)
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            logging.getLogger(__name__).warning("wanted pages cannot be written: %s", error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
