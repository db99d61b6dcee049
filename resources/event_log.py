"""Dagster's event log in SQLite files, with one database engine a file.

Dagster's own class makes an engine for every statement. That takes most of the 20 ms of storing an event, which add up
to a quarter of a daily run.
"""

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self

from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine

# Each run has a file: a webserver that has shown many runs closes the least recently used.
OPEN_FILES = 8


class EventLog(SqliteEventLogStorage):
    """The event log, with a cache of engines."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Return the event log of an instance's configuration."""
        return cls(inst_data=inst_data, **config_value)

    def has_table(self, table_name: str) -> bool:
        """Return whether the index has a table. The answer is cached, since storing each check result needs it."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    @contextmanager
    def _connect(self, shard: str) -> Generator[Connection]:
        with self._db_lock, self._engine(shard).connect() as connection, connection.begin():
            yield connection

    def _engine(self, shard: str) -> Engine:
        # Dagster empties this set when it has deleted the files.
        if shard not in self._initialized_dbs:
            self._close(shard)
        if shard not in self._engines:
            timeout = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
            engine = create_engine(self.conn_string_for_shard(shard), connect_args=timeout)
            event.listen(engine, "connect", _relax_sync)
            self._initdb(engine)
            self._engines[shard] = engine
            self._initialized_dbs.add(shard)
            if len(self._engines) > OPEN_FILES:
                self._close(next(iter(self._engines)))
        self._engines.move_to_end(shard)
        return self._engines[shard]

    def _close(self, shard: str) -> None:
        if shard in self._engines:
            self._engines.pop(shard).dispose()


def _relax_sync(connection: Any, _: Any) -> None:
    """Keep the file consistent after any failure, but do not wait for the disk after each event."""
    connection.execute("PRAGMA synchronous = NORMAL")
