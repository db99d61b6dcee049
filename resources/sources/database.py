"""A table of a SQL database, read by the time of each row's latest change.

Every address that SQLAlchemy takes will do: Postgres and SQLite as the platform comes, others with their driver beside
it. A table that the database does not have has nothing to give; a view does as well as a table. The time of a change
is ``updated_at`` where the table has that column, else the column that dates its rows; it needs an index, and without
a zone it is in UTC.

What is kept is the newest time read. A reading begins OVERLAP before it, since transactions commit in another order
than that of their times, and what it meets again is known by its content. So not captured are: deletions; a change
that does not move the time, or moves it back by more than OVERLAP; one that commits later than OVERLAP after a newer
one has been read; a version that another replaces before it is read. Another database under the same setting is read
from the same time on. What is erased from the tables must be erased from the database too: rows of the last OVERLAP
come again. A value that the driver cannot turn into a Python one (``infinity``) fails the reading.
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
from resources.sources.incremental import Checkpoint, SourceError, identified

OVERLAP = timedelta(minutes=10)
# Newest rows that are looked at to say whether there is anything new.
PEEKED = 1_000
UPDATED_AT = "updated_at"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Table:
    """A table, or a view, of a database.

    Attributes:
        address: of the database.
        table: its name.
        key: a column that it must have.
        dated_by: the column that dates its rows, which it must have too.
        chunk: rows that are in memory at a time.
        max_bytes: bytes that a row may have.
    """

    address: SecretStr
    table: str
    key: str
    dated_by: str
    chunk: int
    max_bytes: int

    @property
    def name(self) -> str:
        """Under the name itself the newest time read is kept, in microseconds since 1970."""
        return f"database:{self.table}"

    def read(self, checkpoint: Checkpoint) -> Iterator[tuple[list[Record], dict[str, int]]]:
        """See ``IncrementalSource``: the rows in the order of their times, from one statement, so each of them once."""
        newest, now = checkpoint(self.name), datetime.now(UTC)
        with self._connected() as connection:
            changes = self._changes(connection, newest)
            if changes is None:
                return
            query, time, times = changes
            rows = connection.execute(query.order_by(time), execution_options={"yield_per": self.chunk}).mappings()
            for part in rows.partitions():
                # A clock that is ahead must not make the reading pass over what comes next.
                seen = [moment for row in part if (moment := _moment(row, times)) and moment <= now]
                newest = max([newest or 0, *((moment - EPOCH) // MICROSECOND for moment in seen)])
                yield self._records(part), {self.name: newest}

    def peek(self, checkpoint: Checkpoint) -> list[Record]:
        """See ``IncrementalSource``: of the rows since the last reading, the newest few."""
        with self._connected() as connection:
            changes = self._changes(connection, checkpoint(self.name))
            if changes is None:
                return []
            query, time, _ = changes
            soon = _as_stored(datetime.now(UTC) + timedelta(days=1), time)
            newest = query.where(time <= soon).order_by(time.desc()).limit(PEEKED)
            return self._records(connection.execute(newest).mappings().all())

    def _records(self, rows: Iterable[Any]) -> list[Record]:
        return [identified(dict(row), self.max_bytes) for row in rows]

    def _changes(
        self, connection: sa.Connection, newest: int | None
    ) -> tuple[sa.Select[*tuple[Any, ...]], sa.ColumnElement[Any], list[str]] | None:
        """Return the query for what has changed, the time of change in it, and the columns that tell that time."""
        inspector = sa.inspect(connection)
        if not inspector.has_table(self.table):
            return None
        columns = {column["name"]: column for column in inspector.get_columns(self.table)}
        missing = [name for name in (self.key, self.dated_by) if name not in columns]
        if missing:
            raise SourceError(f"table {self.table} of the database has no column {' and no column '.join(missing)}")
        times = [name for name in dict.fromkeys((UPDATED_AT, self.dated_by)) if name in columns]
        # Where a row has not been changed yet, the time of change may be null: the row's own time counts.
        times = times if columns[times[0]]["nullable"] else times[:1]
        for name in times:
            if not isinstance(columns[name]["type"], sa.DateTime):
                raise SourceError(f"column {name} of table {self.table} is {columns[name]['type']}, no timestamp")
        typed = [sa.column(name, columns[name]["type"]) for name in times]
        time = sa.func.coalesce(*typed) if len(typed) > 1 else typed[0]
        # Values as the driver gives them, so that one that SQLAlchemy cannot read is quarantined with its row. Only
        # truth must be told from 0 and 1.
        raw = [
            sa.column(name, column["type"] if isinstance(column["type"], sa.Boolean) else None)
            for name, column in columns.items()
        ]
        query = sa.select(*raw).select_from(sa.table(self.table))
        if newest is not None:
            since = time >= _as_stored(EPOCH + newest * MICROSECOND - OVERLAP, time)
            never = all(columns[name]["nullable"] for name in times)
            query = query.where(sa.or_(since, time.is_(None)) if never else since)
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
        """Return the first line of what is wrong, without any piece of the address: not all of them parse right."""
        message = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}".split("\n")[0]
        given = self.address.get_secret_value().partition("://")[2]
        pieces = {form for piece in re.split(r"[:/@?&=]", given) for form in (piece, unquote(piece))}
        for piece in sorted(pieces, key=len, reverse=True):
            message = message.replace(piece, "…") if len(piece) > 1 else message
        return message


def _moment(row: Mapping[Any, Any], times: list[str]) -> datetime | None:
    """Return the time of a row's latest change; None where it has none that can be read."""
    value = next((row[name] for name in times if row[name] is not None), None)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(moment, datetime):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _as_stored(moment: datetime, time: sa.ColumnElement[Any]) -> datetime:
    """Return a moment with or without its zone, as the column has it; a column without is in UTC."""
    return moment if getattr(time.type, "timezone", False) else moment.replace(tzinfo=None)
