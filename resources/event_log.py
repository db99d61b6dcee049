"""Dagster's event log in SQLite files, with one database engine a file.

Dagster's own class makes an engine for every statement. That takes most of the 20 ms of storing an event, which add up
to a quarter of a daily run.
"""

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

from dagster import DagsterInstance, RunsFilter
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage, SqlEventLogStorageTable, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine

# Each run has a file: a webserver that has shown many runs closes the least recently used.
OPEN_FILES = 8
# Runs that are deleted at a time.
RUNS = 100


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


def forget(instance: DagsterInstance, before: datetime) -> int:
    """Delete an instance's runs that ended before a time, and events of no run from before it; return their number."""
    ended = RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    deleted = 0
    while records := instance.get_run_records(ended, limit=RUNS):
        for record in records:
            instance.delete_run(record.dagster_run.run_id)
        deleted += len(records)
    storage, events = instance.event_log_storage, SqlEventLogStorageTable
    old = (events.c.run_id == RUNLESS_RUN_ID) & (events.c.timestamp < before.replace(tzinfo=None))
    if isinstance(storage, SqlEventLogStorage):
        for connection in (storage.index_connection(), storage.run_connection(RUNLESS_RUN_ID)):
            with connection as open_connection:
                deleted += open_connection.execute(events.delete().where(old)).rowcount
    return deleted


def _relax_sync(connection: Any, _: Any) -> None:
    """Keep the file consistent after any failure, but do not wait for the disk after each event."""
    connection.execute("PRAGMA synchronous = NORMAL")
