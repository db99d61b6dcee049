"""A table of a SQL database, read by the time of each row's latest change.

Every SQLAlchemy address works: Postgres and SQLite without further packages, others with their driver installed. A view
works as a table does, and a missing table has no rows. The time of a change is ``updated_at`` where the table has that
column, else the column that dates its rows. It needs an index, and without a zone it is in UTC.

The checkpoint is the newest time read. A read starts OVERLAP before it, since transactions do not commit in the order
of their times; rows that are read again are recognised by their content. These changes are not captured:

- a deletion;
- a change that leaves the time as it is, or moves it back by more than OVERLAP;
- a change that commits more than OVERLAP after a newer one was read;
- a version that is replaced before it is read.

Another database under the same setting is read from the same time on. Rows that are erased from the tables must be
erased from the database too, or those of the last OVERLAP come again. A value that the driver cannot convert to Python
(``infinity``) fails the read.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from resources.landing.records import Record
from resources.sources.incremental import Checkpoint, SourceError, content_record

OVERLAP = timedelta(minutes=10)
# Newest rows that ``peek`` reads.
PEEK_ROWS = 1_000
UPDATED_AT = "updated_at"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Table:
    """A table, or a view, of a database.

    Attributes:
        address: address of the database.
        table: name of the table.
        key: key column, which it must have.
        dated_by: column that dates its rows, which it must have too.
        chunk: rows in memory at a time.
        max_bytes: limit of a row's bytes.
    """

    address: SecretStr
    table: str
    key: str
    dated_by: str
    chunk: int
    max_bytes: int

    @property
    def name(self) -> str:
        """Name of the source, and of the checkpoint: the newest time read, in microseconds since 1970."""
        return f"database:{self.table}"

    def read(self, checkpoint: Checkpoint) -> Iterator[tuple[list[Record], dict[str, int]]]:
        """See ``IncrementalSource``: one statement returns each row once, in the order of the times."""
        newest, now = checkpoint(self.name), datetime.now(UTC)
        with self._connected() as connection:
            changes = self._changes(connection, newest)
            if changes is None:
                return
            query, time, times = changes
            rows = connection.execute(query.order_by(time), execution_options={"yield_per": self.chunk}).mappings()
            for part in rows.partitions():
                # Times in the future are left out: a writer's clock that is ahead would hide the changes that follow.
                past = [changed_at for row in part if (changed_at := _changed_at(row, times)) and changed_at <= now]
                newest = max([newest or 0, *((changed_at - EPOCH) // MICROSECOND for changed_at in past)])
                yield self._records(part), {self.name: newest}

    def peek(self, checkpoint: Checkpoint) -> list[Record]:
        """See ``IncrementalSource``: the newest rows since the last read."""
        with self._connected() as connection:
            changes = self._changes(connection, checkpoint(self.name))
            if changes is None:
                return []
            query, time, _ = changes
            tomorrow = _in_column_zone(datetime.now(UTC) + timedelta(days=1), time)
            newest = query.where(time <= tomorrow).order_by(time.desc()).limit(PEEK_ROWS)
            return self._records(connection.execute(newest).mappings().all())

    def _records(self, rows: Iterable[Any]) -> list[Record]:
        return [content_record(dict(row), self.max_bytes) for row in rows]

    def _changes(
        self, connection: sa.Connection, newest: int | None
    ) -> tuple[sa.Select[*tuple[Any, ...]], sa.ColumnElement[Any], list[str]] | None:
        """Return the query of changed rows, its expression for the time of change, and the columns of that time."""
        inspector = sa.inspect(connection)
        if not inspector.has_table(self.table):
            return None
        columns = {column["name"]: column for column in inspector.get_columns(self.table)}
        missing = [name for name in (self.key, self.dated_by) if name not in columns]
        if missing:
            raise SourceError(f"table {self.table} of the database has no column {' and no column '.join(missing)}")
        times = [name for name in dict.fromkeys((UPDATED_AT, self.dated_by)) if name in columns]
        # The time of change may be null in a row that was never changed: the row's own time counts then.
        times = times if columns[times[0]]["nullable"] else times[:1]
        for name in times:
            if not isinstance(columns[name]["type"], sa.DateTime):
                raise SourceError(f"column {name} of table {self.table} is {columns[name]['type']}, no timestamp")
        typed = [sa.column(name, columns[name]["type"]) for name in times]
        time = sa.func.coalesce(*typed) if len(typed) > 1 else typed[0]
        # Untyped, so that a value that SQLAlchemy cannot convert is quarantined with its row. Only booleans need their
        # type, to differ from 0 and 1.
        untyped = [
            sa.column(name, column["type"] if isinstance(column["type"], sa.Boolean) else None)
            for name, column in columns.items()
        ]
        query = sa.select(*untyped).select_from(sa.table(self.table))
        if newest is not None:
            since = time >= _in_column_zone(EPOCH + newest * MICROSECOND - OVERLAP, time)
            nullable = all(columns[name]["nullable"] for name in times)
            query = query.where(sa.or_(since, time.is_(None)) if nullable else since)
        return query, time, times

    @contextmanager
    def _connected(self) -> Generator[sa.Connection]:
        try:
            address = sa.make_url(self.address.get_secret_value())
            postgres = address.get_backend_name() == "postgresql"
            waits = {"connect_timeout": CONNECT_SECONDS} if postgres else {}
            engine = sa.create_engine(address, poolclass=sa.NullPool, connect_args=waits)
            with engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise SourceError(f"cannot read {self.table} from POSTGRES_DSN: {self._message(error)}") from None

    def _message(self, error: Exception) -> str:
        """Return the first line of an error without any part of the address, which may not even parse."""
        message = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}".split("\n")[0]
        address = self.address.get_secret_value().partition("://")[2]
        pieces = {form for piece in re.split(r"[:/@?&=]", address) for form in (piece, unquote(piece))}
        for piece in sorted(pieces, key=len, reverse=True):
            message = message.replace(piece, "…") if len(piece) > 1 else message
        return message


def _changed_at(row: Mapping[Any, Any], times: list[str]) -> datetime | None:
    """Return the time of a row's latest change; None if it has none, or none that parses."""
    value = next((row[name] for name in times if row[name] is not None), None)
    try:
        timestamp = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(timestamp, datetime):
        return None
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


def _in_column_zone(timestamp: datetime, time: sa.ColumnElement[Any]) -> datetime:
    """Return a UTC timestamp with or without its zone, as the column's type requires."""
    return timestamp if getattr(time.type, "timezone", False) else timestamp.replace(tzinfo=None)
