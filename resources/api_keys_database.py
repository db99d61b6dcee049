"""API keys in Postgres: in the table ``api_keys``, which the first key makes."""

import json
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from resources.api_keys import ApiKey, ApiKeys, ApiKeysError, by_digest

TABLE = """CREATE TABLE IF NOT EXISTS api_keys (
    id text PRIMARY KEY, sha256 text UNIQUE NOT NULL, tenant text NOT NULL, role text NOT NULL, scopes text[] NOT NULL,
    expires_at timestamptz, place integer NOT NULL
)"""
READ = "SELECT to_jsonb(api_keys) - 'place' FROM api_keys ORDER BY place"
WRITE = "INSERT INTO api_keys SELECT * FROM jsonb_populate_recordset(NULL::api_keys, %s::jsonb)"
# A number of our own: of two who change keys, one waits.
LOCK = 0x5EA31E55
CONNECT_SECONDS, RETRY_SECONDS = 5, 0.5
# Seconds after which keys are read again though nobody has told of a change, and for which those that were read hold.
READ_SECONDS, HOLD_SECONDS = 5.0, 30.0


class DatabaseKeys(ApiKeys):
    """The keys of a database.

    A server that follows them is told of each change. Where the database does not answer, the keys last read hold for
    ``HOLD_SECONDS``; then nobody is let in until it does.

    Args:
        address: postgresql://…
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._stopped, self._read_once = Event(), Event()
        self._follower: Thread | None = None
        self._by_digest: Mapping[str, ApiKey] = {}
        self._holds_until = 0.0

    def start(self) -> None:
        """Begin to follow what others change; a database that does not answer is waited for in the background."""
        self._follower = Thread(target=self._follow, name="keys", daemon=True)
        self._follower.start()
        self._read_once.wait(CONNECT_SECONDS)

    def close(self) -> None:
        """Follow it no more."""
        self._stopped.set()
        if self._follower is not None:
            self._follower.join()

    def _current(self) -> Mapping[str, ApiKey]:
        if self._follower is None:
            with self._connected() as connection:
                return _read(connection)
        if time.monotonic() > self._holds_until:
            raise ApiKeysError("the keys in Postgres cannot be read")
        return self._by_digest

    @contextmanager
    def _changed(self) -> Generator[list[ApiKey]]:
        with self._connected() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            connection.execute(TABLE)
            keys = [*_read(connection).values()]
            yield keys
            connection.execute("DELETE FROM api_keys")
            rows = [key.model_dump(mode="json") | {"place": place} for place, key in enumerate(keys)]
            connection.execute(WRITE, [json.dumps(rows)])
            connection.execute("NOTIFY api_keys")

    @contextmanager
    def _connected(self) -> Generator[Any]:
        import psycopg

        try:
            with psycopg.connect(self._address, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
                yield connection
        except psycopg.Error as error:
            raise ApiKeysError(f"the keys in Postgres cannot be reached: {type(error).__name__}") from None

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._connected() as connection:
                    connection.execute("LISTEN api_keys")
                    while not self._stopped.is_set():
                        asked = time.monotonic()
                        self._by_digest = _read(connection)
                        self._holds_until = asked + HOLD_SECONDS
                        self._read_once.set()
                        self._wait(connection)
            except ApiKeysError:
                self._stopped.wait(RETRY_SECONDS)

    def _wait(self, connection: Any) -> None:
        """Wait for a change, as long as keys need not be read again."""
        until = time.monotonic() + READ_SECONDS
        while time.monotonic() < until and not self._stopped.is_set():
            for _ in connection.notifies(timeout=RETRY_SECONDS, stop_after=1):
                return


def _read(connection: Any) -> Mapping[str, ApiKey]:
    (there,) = connection.execute("SELECT to_regclass('api_keys') IS NOT NULL").fetchone()
    rows = connection.execute(READ).fetchall() if there else []
    return by_digest([ApiKey.model_validate(row) for (row,) in rows])
