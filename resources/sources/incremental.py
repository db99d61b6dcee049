"""Sources that are asked, now and again, for what is new, and that give some of it more than once."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Protocol

from resources.lakehouse.staleness import fingerprint
from resources.landing.records import Record

# Returns the number that a table keeps under a name, or None.
Checkpoint = Callable[[str], int | None]


class SourceError(RuntimeError):
    """A source does not answer, or says no; one line, with no secret in it."""


class IncrementalSource(Protocol):
    """A source whose records have no place of their own: ``identified`` names them by their content."""

    @property
    def name(self) -> str:
        """What names the source in every row, and begins the name of each number that is kept for it."""
        ...

    def read(self, checkpoint: Checkpoint) -> Iterator[tuple[list[Record], dict[str, int]]]:
        """Yield what is new, and some of what is not, with the numbers to keep from then on.

        Raises:
            SourceError: what was yielded before it stands.
        """
        ...

    def peek(self, checkpoint: Checkpoint) -> list[Record]:
        """Return, with bounded work, records among which there is a new one if anything is new.

        Raises:
            SourceError: the source does not answer, or says no.
        """
        ...


def identified(value: Any, max_bytes: int) -> Record:
    """Return the record of an object: its position is a number made of its content, in which a null counts for nothing.

    Args:
        value: what the source gave; dates, decimals and the like in it become what JSON has for them.
        max_bytes: the most bytes that it may have as JSON.
    """
    is_object = isinstance(value, dict)
    content = {name: one for name, one in value.items() if one is not None} if is_object else value
    text = json.dumps(content, default=_plain, sort_keys=True)
    position = fingerprint([text])
    if len(text) > max_bytes:
        return Record(position, broken="too_large", raw=text[:500])
    if not is_object:
        return Record(position, broken="not_an_object", raw=text)
    return Record(position, dict.fromkeys(value) | json.loads(text))


def _plain(value: Any) -> Any:
    """Return what JSON has for a value; a moment in UTC, so that no session's time zone changes a record's name."""
    if isinstance(value, datetime) and value.tzinfo:
        value = value.astimezone(UTC)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return bytes(value).hex() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
