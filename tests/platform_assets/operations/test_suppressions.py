"""A suppressed subject comes back by no way in, and every record is accounted for."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import polars as pl
import pytest

from governance.erasure import Subject
from platform_assets.bronze import review_labels, social_messages, user_profiles
from platform_assets.ingestion import append, has_unread, ingest, prepare, sources_of
from platform_assets.operations.suppressions import TABLE, suppress, suppressed_names
from platform_assets.publishing import QUARANTINE
from resources.lakehouse.tables import Lakehouse
from resources.landing.folders import landed_files
from resources.landing.increments import Increment
from resources.landing.records import Record
from resources.settings import configure, settings

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
ME = Subject("u-1", "acme")
NONE = pl.DataFrame(schema={"tenant_id": pl.String, "document_id": pl.String})


@pytest.fixture
def lake(tmp_path) -> Lakehouse:
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    suppress(lake, ME, pl.DataFrame({"tenant_id": ["acme"], "document_id": ["m-1"]}))
    return lake


def message(number, author, **fields):
    return {"message_id": f"m-{number}", "author_id": author, "text": "x", "tenant_id": "acme"} | fields


RECORDS = [
    message(1, "u-1", sent_at="2026-11-09T08:00:00Z"),
    message(2, "u-2", sent_at="2026-11-09T08:00:00Z"),
    message(3, "u-1", sent_at="2026-11-09T08:00:00Z", tenant_id="other"),
    message(4, "u-2", forwarded={"from": "u-1"}),
    message(5, "u-1", sent_at="no time"),
    message(6, "u-2", sent_at="no time"),
]


def counted(counts):
    return {name: counts[f"rows_{name}"] for name in ("in", "out", "quarantined", "suppressed")}


def test_a_file_that_lands_again_brings_nothing_back_and_says_how_much_it_left_out(lake, tmp_path):
    for name in ("first", "again"):
        file = tmp_path / "landing" / "messages" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(map(json.dumps, RECORDS)) + "\n" + '{"author_id": "u-1", broken\n')
        counts = ingest(lake, social_messages.SCHEMA, landed_files(tmp_path / "landing", "messages"), NOW)
        assert counted(counts) == {"in": 7, "out": 2, "quarantined": 1, "suppressed": 4}
    assert {*lake.read("bronze/social_messages")["message_id"]} == {"m-2", "m-3"}
    assert lake.read(QUARANTINE)["row"].str.contains("u-1").sum() == 0


@pytest.mark.parametrize("tenant", ["acme", None])
def test_labels_of_what_a_subject_wrote_stay_away_with_their_text(lake, tenant):
    prepare(lake, review_labels.SCHEMA, NOW)
    labels = [
        {
            "label_id": str(n),
            "task": "irony",
            "label": "irony",
            "document_id": f"m-{n}",
            "text": "x",
            "tenant_id": tenant,
        }
        for n in (1, 2)
    ]
    labels.append(labels[0] | {"labelled_at": "no time"})
    records = [Record(number, fields) for number, fields in enumerate(labels, 1)]
    rows, quarantined, suppressed = append(lake, review_labels.SCHEMA, [Increment("kafka:labels:0", records)], NOW)
    assert (rows["label_id"].to_list(), quarantined, suppressed) == (["2"], 0, 2)


def test_a_database_that_goes_on_holding_a_subject_is_not_read_again_and_again(lake, tmp_path):
    before, file = settings(), tmp_path / "users.db"
    configure(postgres_dsn=f"sqlite:///{file}", landing=tmp_path / "landing")
    (tmp_path / "landing" / "users").mkdir(parents=True)
    expected = user_profiles.SCHEMA
    try:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("CREATE TABLE users (user_id TEXT, handle TEXT, tenant_id TEXT, updated_at DATETIME)")
            users = [(f"u-{n}", f"h-{n}", "acme", "2026-11-09 08:00:00.000000") for n in (1, 2, 3)]
            connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", users)
        counts = ingest(lake, expected, [], NOW, sources_of(expected))
        assert counted(counts) == {"in": 3, "out": 2, "quarantined": 0, "suppressed": 1}
        assert not has_unread(lake, expected)
        version = lake.version(expected.table)
        ingest(lake, expected, [], NOW, sources_of(expected))
        assert lake.version(expected.table) == version
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE users SET updated_at = '2026-11-09 09:00:00' WHERE user_id < 'u-3'")
        assert has_unread(lake, expected)
        counts = ingest(lake, expected, [], NOW, sources_of(expected))
        assert counts["rows_in"] == counts["rows_out"] + counts["rows_suppressed"]
        assert {*lake.read(expected.table)["user_id"]} == {"u-2", "u-3"}
    finally:
        configure(**before.model_dump())


def test_names_are_stored_as_hashes_of_one_salt_and_once(lake):
    before = lake.read(TABLE)
    suppress(lake, ME, NONE)
    suppress(lake, Subject("u-9"), NONE)
    after = lake.read(TABLE)
    assert after.height == before.height + 3
    assert after["salt"].n_unique() == 1
    assert not after["hash"].is_in(["u-1", "m-1", "u-9"]).any()
    assert suppressed_names(lake).lists("subject", "any tenant", "u-9")
    assert not suppressed_names(Lakehouse(uri=lake.uri + "-empty")).hashes
