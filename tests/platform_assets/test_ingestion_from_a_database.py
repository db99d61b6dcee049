import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import psycopg
import pytest
from deltalake.exceptions import CommitFailedError

from platform_assets import ingestion
from platform_assets.bronze import review_labels, user_profiles
from platform_assets.ingestion import ingest
from platform_assets.publishing import QUARANTINE
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.landing.folders import landed_files
from resources.settings import configure
from resources.settings import settings as current
from resources.sources.incremental import SourceError
from tests.platform_assets.test_parsing import GOOD, NOW, SCHEMA
from tests.resources.sources.test_database import server
from tests.support.kills import KilledError, clean_up_log, dying_at_commits

__all__ = ["server"]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


class Things:
    """A database's table of things, the lakehouse that it is ingested into, and what that holds of it."""

    def __init__(self, folder):
        self.file, self.lake = folder / "app.db", Lakehouse(uri=str(folder / "lake"))
        self.expected = replace(SCHEMA, sql_table="things")
        (folder / "landing" / "messages").mkdir(parents=True)
        configure(postgres_dsn=f"sqlite:///{self.file}", landing=folder / "landing")
        self.run("CREATE TABLE things (id TEXT, at DATETIME, count INTEGER)")

    def run(self, statement, *rows):
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.executemany(statement, rows or [()])

    def add(self, *rows):
        """Add things: id, seconds since the day began, count."""
        moments = [(name, f"{TODAY + timedelta(seconds=at):%Y-%m-%d %H:%M:%S.%f}", n) for name, at, n in rows]
        self.run("INSERT INTO things VALUES (?, ?, ?)", *moments)

    def ingest(self, lake=None):
        now = datetime.now(UTC)
        count = ingest(lake or self.lake, self.expected, [], now, ingestion.sources_of(self.expected))
        return count["rows_in"], count["rows_out"], count["rows_quarantined"]

    def stored(self):
        return sorted(self.lake.read(SCHEMA.table).select("id", "count").rows())

    def broken(self):
        return sorted(self.lake.read(QUARANTINE).select("source", "rule").rows())

    def has_unread(self):
        return ingestion.has_unread(self.lake, self.expected)


@pytest.fixture
def things(tmp_path):
    kept = current()
    yield Things(tmp_path)
    configure(**kept.model_dump())


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(ingestion, "CHUNK", 4)


def test_rows_of_a_database_are_ingested_once_with_how_far(things):
    assert things.has_unread()  # a table that does not exist is made
    things.ingest()
    assert not things.has_unread()
    things.add(("a", 0, 1), ("b", 5, 2))
    assert things.has_unread()
    assert things.ingest() == (2, 2, 0)
    version = things.lake.version(SCHEMA.table)
    assert not things.has_unread()
    assert things.ingest() == (0, 0, 0)
    assert things.lake.version(SCHEMA.table) == version
    row = things.lake.read(SCHEMA.table).sort("id").row(1, named=True)
    assert (row["source"], row["at"], row[DAY]) == ("database:things", TODAY + timedelta(seconds=5), TODAY.date())
    newest = TODAY + timedelta(seconds=5)
    assert things.lake.checkpoint(SCHEMA.table, "database:things") == int(newest.timestamp()) * 1_000_000


def test_ties_late_rows_and_updates_are_each_read_once(things):
    things.add(("a", 100, 1))
    things.ingest()
    for late in (("tie", 100, 1), ("late", 40, 1), ("late too", 40, 1)):
        things.add(late)
        assert things.has_unread()
        assert things.ingest() == (1, 1, 0)
        assert not things.has_unread()
    things.run("UPDATE things SET count = 2 WHERE id = 'late'")
    assert things.ingest() == (1, 1, 0)
    things.run("UPDATE things SET count = 3, at = datetime(at, '+1 hour') WHERE id = 'a'")
    assert things.ingest() == (1, 1, 0)
    assert things.stored() == [("a", 1), ("a", 3), ("late", 1), ("late", 2), ("late too", 1), ("tie", 1)]


def test_equal_rows_of_a_table_without_a_key_are_one_version(things):
    things.add(("a", 0, 1), ("a", 0, 1))
    assert things.ingest() == (1, 1, 0)


def test_broken_rows_of_a_database_are_quarantined_once(things):
    things.add(("", 1, 1), (None, 2, 1), ("good", 3, 1), ("odd", 4, "many"))
    things.run("INSERT INTO things VALUES ('never', NULL, 1), ('some day', 'some day', 1), ('far', '2999-01-01', 1)")
    assert things.ingest() == (7, 1, 6)
    assert things.ingest() == (0, 0, 0)
    assert not things.has_unread()
    assert things.broken() == [
        ("database:things", rule)
        for rule in (
            "bad_timestamp:at",
            "changed_type:count",
            "null:at",
            "null:id",
            "null:id",
            "out_of_range:at",
        )
    ]
    things.add(("next", 5, 1))
    assert things.has_unread()
    assert things.ingest() == (1, 1, 0)


def test_a_new_column_of_a_database_is_kept_and_makes_no_new_versions(things):
    things.add(("a", 0, 1))
    things.ingest()
    things.run("ALTER TABLE things ADD COLUMN region TEXT")
    assert things.ingest() == (0, 0, 0)
    things.run("INSERT INTO things SELECT 'b', at, 1, 'north' FROM things")
    assert things.ingest() == (1, 1, 0)
    said = things.lake.read(SCHEMA.table).sort("id")["undeclared"].to_list()
    assert (said[0], json.loads(said[1])) == (None, {"region": "north"})


@pytest.mark.usefixtures("small_chunks")
def test_a_kill_at_any_commit_of_a_database_loses_and_doubles_nothing(things):
    things.add(*((f"{i}", i % 3, 1) for i in range(10)), ("", 1, 1))

    mortal = dying_at_commits(things.lake.uri)
    for _ in range(4):
        with pytest.raises(KilledError):
            things.ingest(mortal)
    things.ingest()
    assert things.ingest() == (0, 0, 0)
    assert things.stored() == sorted((f"{i}", 1) for i in range(10))
    assert things.broken() == [("database:things", "null:id")]


def test_of_two_that_read_a_database_at_once_one_appends(things):
    things.add(("a", 100, 1))
    things.ingest()
    things.add(("late", 50, 1))

    class Overtaken(Lakehouse):
        def append_once(self, table, rows, before, after):
            if rows.height:
                things.ingest()
            super().append_once(table, rows, before, after)

    with pytest.raises(CommitFailedError, match="another writer has read the same sources"):
        things.ingest(Overtaken(uri=things.lake.uri))
    assert things.stored() == [("a", 1), ("late", 1)]


@pytest.mark.usefixtures("small_chunks")
def test_a_large_table_is_committed_a_chunk_at_a_time(things):
    things.add(*((f"{i}", i, 1) for i in range(11)))
    assert things.ingest() == (11, 11, 0)
    assert things.lake.checkpoint(SCHEMA.table, "commits:database:things") == 3
    assert len(things.stored()) == 11


def test_what_is_kept_of_a_database_survives_checkpoint_compaction_and_clean_up_of_the_log(things):
    things.add(("a", 0, 1))
    things.ingest()
    things.add(("b", 1, 1))
    things.ingest()
    clean_up_log(things.lake, SCHEMA.table)
    assert things.ingest() == (0, 0, 0)
    assert things.lake.checkpoint(SCHEMA.table, "commits:database:things") == 2


def test_a_database_that_does_not_answer_leaves_files_to_be_read(things, caplog):
    things.add(("a", 0, 1))
    things.ingest()
    configure(postgres_dsn="sqlite:////nowhere/app.db", landing=current().landing)
    assert not things.has_unread()
    assert "cannot read things from POSTGRES_DSN" in caplog.text
    (current().landing / "messages" / "a.jsonl").write_text(json.dumps(GOOD) + "\n")
    assert things.has_unread()
    files = landed_files(current().landing, "messages")
    with pytest.raises(SourceError):
        ingest(things.lake, things.expected, files, NOW, ingestion.sources_of(things.expected))
    assert things.stored() == [("1", None), ("a", 1)]


@pytest.mark.slow
def test_users_and_labels_of_postgres_become_bronze_tables(things, server):
    configure(postgres_dsn=server, landing=current().landing)
    assets = [user_profiles.user_profiles, review_labels.review_labels]
    tables = [user_profiles.SCHEMA, review_labels.SCHEMA]

    def materialise():
        done = dg.materialize(assets, resources={"lakehouse": things.lake})
        assert all(check.passed for check in done.get_asset_check_evaluations())
        return [done.asset_materializations_for_node(asset.op.name)[0].metadata["rows_in"].value for asset in assets]

    with psycopg.connect(server, autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS users, labels")
        assert materialise() == [0, 0]
        session.execute("CREATE TABLE users (user_id text, consent boolean, region text, updated_at timestamptz)")
        session.execute(
            "CREATE TABLE labels (label_id text, label text, labelled_at timestamptz, updated_at timestamptz)"
        )
        session.execute(
            "INSERT INTO users VALUES ('u', true, 'north', now()), ('v', false, NULL, now()), (NULL, true, NULL, now())"
        )
        session.execute("INSERT INTO labels VALUES ('l', 'hate', now() - interval '3 days')")
        assert [ingestion.has_unread(things.lake, one) for one in tables] == [True, True]
        assert materialise() == [3, 1]
        session.execute("UPDATE users SET consent = false, updated_at = now() WHERE user_id = 'u'")
        session.execute("UPDATE labels SET label = 'not-hate', updated_at = now()")
        assert materialise() == [1, 1]
        assert [ingestion.has_unread(things.lake, one) for one in tables] == [False, False]
    users = things.lake.read("bronze/user_profiles").sort("user_id", "updated_at")
    region = pl.col("undeclared").str.json_path_match("$.region")
    assert users.select("user_id", "consent", region).rows() == [
        ("u", True, "north"),
        ("u", False, "north"),
        ("v", False, None),
    ]
    labels = things.lake.read("bronze/review_labels").sort("updated_at", nulls_last=False)
    assert labels["label"].to_list() == ["hate", "not-hate"]
    assert things.broken() == [("database:users", "null:user_id")]
