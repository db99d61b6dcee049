"""Sources that are polled for new records, and that return some records more than once."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Protocol

from resources.lakehouse.staleness import fingerprint
from resources.landing.records import Record

# Returns a table's checkpoint of a name, or None.
Checkpoint = Callable[[str], int | None]


class SourceError(RuntimeError):
    """A source does not answer, or refuses. The message is one line without secrets."""


class IncrementalSource(Protocol):
    """A source whose records have no position: ``content_record`` derives one from their content."""

    @property
    def name(self) -> str:
        """Name of the source in every row, and prefix of its checkpoints' names."""
        ...

    def read(self, checkpoint: Checkpoint) -> Iterator[tuple[list[Record], dict[str, int]]]:
        """Yield chunks of records, among them all new ones, with the checkpoints after each.

        Raises:
            SourceError: chunks yielded before it are valid.
        """
        ...

    def peek(self, checkpoint: Checkpoint) -> list[Record]:
        """Return, with bounded work, some records; at least one is new if any new one exists.

        Raises:
            SourceError: the source does not answer, or refuses.
        """
        ...


def content_record(value: Any, max_bytes: int) -> Record:
    """Return the record of an object: its position is a hash of its content without nulls.

    Args:
        value: the object; dates, decimals and the like in it are converted for JSON.
        max_bytes: limit of its bytes as JSON.
    """
    is_object = isinstance(value, dict)
    content = {name: field for name, field in value.items() if field is not None} if is_object else value
    text = json.dumps(content, default=_plain, sort_keys=True)
    position = fingerprint([text])
    if len(text) > max_bytes:
        return Record(position, broken="too_large", raw=text[:500])
    if not is_object:
        return Record(position, broken="not_an_object", raw=text)
    return Record(position, dict.fromkeys(value) | json.loads(text))


def _plain(value: Any) -> Any:
    """Convert a value for JSON; a timestamp to UTC, so that no session's time zone changes a record's position."""
    if isinstance(value, datetime) and value.tzinfo:
        value = value.astimezone(UTC)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return bytes(value).hex() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
