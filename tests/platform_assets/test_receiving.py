import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import psycopg
import pytest
from deltalake.exceptions import CommitFailedError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from platform_assets import receiving
from platform_assets.bronze import review_labels, user_profiles
from platform_assets.publishing import QUARANTINE, quarantined
from platform_assets.receiving import MAX_COLUMNS, ROW, TIME, Received, ingest, receive
from resources.lakehouse import DAY, Lakehouse
from resources.landing import Record, landed_files, parse
from resources.polled import SourceError
from resources.settings import configure
from resources.settings import settings as current
from tests.resources.test_database import server
from tests.resources.test_pull import serving

__all__ = ["server"]

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
EXPECTED = Received(
    table="bronze/things",
    folder="messages",
    owner="nobody",
    columns={
        "id": pl.String,
        "at": TIME,
        "count": pl.Int64,
        "price": pl.Float64,
        "open": pl.Boolean,
        "body": pl.Binary,
        "parts": pl.String,
        "kind": pl.String,
    },
    key="id",
    event_time="at",
    allowed={"kind": frozenset({"small", "large"})},
    nested=frozenset({"parts"}),
)
GOOD = {"id": "1", "at": "2026-11-10T08:00:00Z"}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from(["2026-11-10T08:00:00Z", "small", 2**63, 1e308, 1_794_268_800]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from([*EXPECTED.columns, *ROW, "payload_source", "extra", "Extra", "ID", "a b", ""]) | st.text(
    max_size=4
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5).flatmap(
    lambda fields: st.sampled_from([fields, GOOD | fields, fields | GOOD])
)


def received(*fields, stored=None):
    records = [Record(position, one) for position, one in enumerate(fields, 1)]
    return receive(records, EXPECTED, stored or pl.Schema(), "messages/a.jsonl", NOW)


def rule(fields):
    rows, broken = received(fields)
    assert rows.height + broken.height == 1
    return broken["rule"].item() if broken.height else None


def value(name, given_value):
    rows, broken = received(GOOD | {name: given_value})
    assert broken.is_empty()
    return rows[name].item()


def test_a_record_becomes_a_typed_row_with_its_place_and_day():
    fields = {"id": "7", "at": "2026-11-09T23:30:00-02:00", "count": 3, "price": 2, "open": True}
    rows, broken = received(fields | {"parts": [{"a": 1}], "kind": "small", "body": "ü"})
    assert broken.is_empty()
    assert rows.schema == pl.Schema({**EXPECTED.columns, **ROW})
    assert rows.row(0, named=True) == {
        "id": "7",
        "at": datetime(2026, 11, 10, 1, 30, tzinfo=UTC),
        "count": 3,
        "price": 2.0,
        "open": True,
        "body": "ü".encode(),
        "parts": '[{"a":1}]',
        "kind": "small",
        "source": "messages/a.jsonl",
        "position": 1,
        "received_at": NOW,
        DAY: date(2026, 11, 10),
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"id": None}, "null:id"),
        ({"id": ""}, "null:id"),
        ({"id": 5}, "changed_type:id"),
        ({"at": None}, "null:at"),
        ({"at": "yesterday"}, "bad_timestamp:at"),
        ({"at": "2026-13-01T00:00:00Z"}, "bad_timestamp:at"),
        ({"at": ""}, "bad_timestamp:at"),
        ({"at": True}, "bad_timestamp:at"),
        ({"at": []}, "bad_timestamp:at"),
        ({"at": 1e300}, "bad_timestamp:at"),
        ({"at": float("nan")}, "bad_timestamp:at"),
        ({"at": "0001-01-01T00:00:00+23:00"}, "bad_timestamp:at"),
        ({"at": "2024-12-31T23:59:59Z"}, "out_of_range:at"),
        ({"at": "2025-01-01T00:00:00Z"}, None),
        ({"at": "2026-11-11T12:00:00Z"}, None),
        ({"at": "2026-11-11T12:00:01Z"}, "out_of_range:at"),
        ({"count": 2**63 - 1}, None),
        ({"count": 2**63}, "out_of_range:count"),
        ({"count": -(2**63) - 1}, "out_of_range:count"),
        ({"count": 1.5}, "changed_type:count"),
        ({"count": True}, "changed_type:count"),
        ({"count": "3"}, "changed_type:count"),
        ({"price": 10**400}, "out_of_range:price"),
        ({"price": float("nan")}, "out_of_range:price"),
        ({"price": float("inf")}, "out_of_range:price"),
        ({"price": False}, "changed_type:price"),
        ({"open": 1}, "changed_type:open"),
        ({"body": 1}, "changed_type:body"),
        ({"kind": "huge"}, "unknown:kind"),
        ({"kind": None}, None),
        ({"kind": {"a": 1}}, "changed_type:kind"),
        ({"id": ["1"]}, "changed_type:id"),
        ({"parts": 5}, "changed_type:parts"),
        ({"parts": "[]"}, None),
        ({"more": {"a": 1}}, None),
        ({"more": b"bytes"}, "changed_type:more"),
        ({"a b": 1}, "column_name"),
        ({"": 1}, "column_name"),
        ({"größe": 1}, "column_name"),
        ({"\ud800": 1}, "column_name"),
        ({"x" * 65: 1}, "column_name"),
        ({"1st": 1}, "column_name"),
        ({"ID": "1"}, "column_name"),
        ({"more": 1, "More": 2}, "column_name"),
        ({f"c{i}": i for i in range(MAX_COLUMNS)}, "too_many_columns"),
    ],
)
def test_each_rule(changes, expected):
    assert rule(GOOD | changes) == expected


def test_unreadable_records_keep_their_rule_and_beginning():
    rows, broken = receive(
        [parse(b"{oops", 1), parse(b"[1]", 2), parse(b"\xff{}", 3), parse(b'{"id": NaN}', 4), Record(5, GOOD)],
        EXPECTED,
        pl.Schema(),
        "f",
        NOW,
    )
    assert rows["position"].to_list() == [5]
    assert broken.select("position", "rule", "raw").rows() == [
        (1, "not_json", "{oops"),
        (2, "not_an_object", "[1]"),
        (3, "not_utf8", "�{}"),
        (4, "not_json", '{"id": NaN}'),
    ]
    assert broken[DAY].to_list() == [NOW.date()] * 4


def test_a_broken_record_is_kept_as_it_was():
    _, broken = received({"id": "", "text": "ü\ud800", "deep": {"a": [1, None]}})
    assert json.loads(broken["raw"].item()) == {"id": "", "text": "ü?", "deep": {"a": [1, None]}}


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-10", datetime(2026, 11, 10, tzinfo=UTC)),
        ("2026-11-10T08:00:00", datetime(2026, 11, 10, 8, tzinfo=UTC)),
        ("2026-11-10T08:00:00.123456+02:00", datetime(2026, 11, 10, 6, 0, 0, 123456, tzinfo=UTC)),
        (1_794_268_800, datetime(2026, 11, 10, tzinfo=UTC)),
        (1_794_268_800_250, datetime(2026, 11, 10, 0, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_times_are_iso_or_seconds_or_milliseconds_and_utc(moment, expected):
    assert value("at", moment) == expected


def test_without_a_time_the_day_is_that_of_receiving():
    rows, _ = received({"id": "1"})
    assert (rows["at"].item(), rows[DAY].item()) == (None, NOW.date())


def test_text_can_be_written_whatever_it_holds():
    assert value("kind", None) is None
    assert value("text", "a\ud800b") == "a?b"
    assert value("text", "\udc00") == "?"
    assert value("body", "\ud800") == b"?"
    assert value("parts", {"k\ud800": "v"}) == '{"k?":"v"}'


def test_reserved_names_are_kept_beside_ours():
    rows, broken = received(GOOD | {"source": "theirs", DAY: "x", "position": 9, "received_at": "y"})
    assert broken.is_empty()
    kept = rows.row(0, named=True)
    assert (kept["source"], kept["position"], kept[DAY]) == ("messages/a.jsonl", 1, date(2026, 11, 10))
    assert [kept[f"payload_{name}"] for name in ("source", DAY, "position", "received_at")] == ["theirs", "x", 9, "y"]


def test_a_reserved_name_and_its_stand_in_are_never_mixed_up():
    _, broken = received(GOOD | {"source": 1}, GOOD | {"source": 1, "payload_source": 2})
    assert broken["rule"].to_list() == ["column_name"]


def test_new_fields_become_columns_of_the_type_that_they_came_with():
    rows, broken = received(
        GOOD | {"n": 1, "f": 0.5, "b": True, "s": "x", "o": {"a": [1]}, "nothing": None}, GOOD | {"n": 2, "o": "text"}
    )
    assert broken.is_empty()
    assert "nothing" not in rows.columns
    types = {"n": pl.Int64, "f": pl.Float64, "b": pl.Boolean, "s": pl.String, "o": pl.String}
    assert {name: rows.schema[name] for name in types} == types
    assert rows["o"].to_list() == ['{"a":[1]}', "text"]
    assert rows["f"].to_list() == [0.5, None]


def test_a_column_keeps_the_type_that_it_came_with():
    rows, broken = received(GOOD | {"n": 1}, GOOD | {"n": "one"}, GOOD | {"N": 1})
    assert rows["n"].to_list() == [1]
    assert broken["rule"].to_list() == ["changed_type:n", "column_name"]
    _, broken = received(GOOD | {"n": "one"}, stored=rows.schema)
    assert broken["rule"].to_list() == ["changed_type:n"]


def test_a_broken_record_makes_no_column():
    rows, broken = received({"id": None, "ghost": 1}, GOOD | {"ghost": "text"})
    assert broken["rule"].to_list() == ["null:id"]
    assert rows.schema["ghost"] == pl.String
    rows, _ = received(GOOD | {"ghost": 1, "kind": "huge"}, GOOD)
    assert "ghost" not in rows.columns


def test_columns_of_the_table_stay_and_count_towards_the_limit():
    stored = pl.Schema({f"c{i}": pl.Int64 for i in range(MAX_COLUMNS - len(EXPECTED.columns))})
    rows, broken = received(GOOD | {"c0": 5}, GOOD | {"one_more": 1}, stored=stored)
    assert broken["rule"].to_list() == ["too_many_columns"]
    assert set(stored.names()) <= set(rows.columns)


def test_no_records_make_an_empty_table_of_the_declared_columns():
    rows, broken = received()
    assert (rows.height, broken.height) == (0, 0)
    assert rows.schema == pl.Schema({**EXPECTED.columns, **ROW})


@settings(max_examples=150, deadline=None)
@given(st.lists(OBJECTS, max_size=6))
@example([GOOD | {"extra": float("inf")}, GOOD | {"extra": 2**64}, GOOD | {"extra": [float("nan")]}])
@example([GOOD | {"extra": 1}, GOOD | {"Extra": 1}, GOOD | {"extra": 1.5}])
def test_every_object_is_a_row_or_quarantined(objects):
    rows, broken = received(*objects)
    assert rows.height + broken.height == len(objects)
    assert sorted([*rows["position"], *broken["position"]]) == list(range(1, len(objects) + 1))
    assert broken["rule"].str.len_chars().min() != 0
    assert len({name.lower() for name in rows.columns}) == len(rows.columns)
    names = quarantined(EXPECTED.table, broken)
    assert names.height == broken.height
    assert names["quarantine_id"].is_unique().all()


@settings(max_examples=60, deadline=None)
@given(st.lists(OBJECTS, max_size=5))
def test_receiving_twice_gives_the_same(objects):
    once, twice = received(*objects), received(*objects)
    assert_frame_equal(once[0], twice[0])
    assert_frame_equal(once[1], twice[1])


def test_no_depth_of_nesting_crashes():
    for depth in range(900, 1_010):
        record = parse(b'{"id": "1", "x": ' + b"[" * depth + b"]" * depth + b"}", 1)
        rows, broken = receive([record], EXPECTED, pl.Schema(), "f", NOW)
        assert rows.height + broken.height == 1


class KilledError(RuntimeError):
    """The process ends here."""


class DyingBeforeAppend(Lakehouse):
    """A lakehouse whose process dies before rows are appended."""

    def append_once(self, table, rows, started, reached):
        if rows.height:
            raise KilledError
        super().append_once(table, rows, started, reached)


class Landing:
    """A landing folder with one file, and the lakehouse that it is ingested into."""

    def __init__(self, folder):
        self.root, self.lake = folder / "landing", Lakehouse(uri=str(folder / "lake"))
        (self.root / "messages").mkdir(parents=True)
        self.file = self.root / "messages" / "a.jsonl"
        self.file.touch()

    def write(self, *ids, file=None):
        """Append a record for each id, and a broken line for each None."""
        lines = ["{broken" if one is None else json.dumps(GOOD | {"id": one}) for one in ids]
        with (self.root / "messages" / file if file else self.file).open("a", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)

    def ingest(self, now=NOW, lake=None):
        return ingest(lake or self.lake, EXPECTED, landed_files(self.root, "messages"), now)

    def stored(self):
        return sorted(self.lake.read(EXPECTED.table)["id"].to_list())

    def broken(self):
        return sorted(self.lake.read(QUARANTINE).select("source", "position", "rule").rows())


@pytest.fixture
def landing(tmp_path):
    return Landing(tmp_path)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(receiving, "CHUNK", 4)


def test_ingesting_twice_is_ingesting_once(landing):
    landing.write("a", None, "b")
    assert landing.ingest() == {"rows_in": 3, "rows_out": 2, "rows_quarantined": 1, "files": 1}
    version = landing.lake.version(EXPECTED.table)
    assert landing.ingest() == {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "files": 0}
    assert landing.lake.version(EXPECTED.table) == version
    assert landing.stored() == ["a", "b"]
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json")]
    row = landing.lake.read(EXPECTED.table).sort("id").row(0, named=True)
    assert (row["source"], row["position"], row["received_at"]) == ("messages/a.jsonl", 1, NOW)


def test_a_file_that_grew_is_read_on(landing):
    landing.write("a", "b")
    landing.ingest()
    landing.write("c", None)
    assert landing.ingest(NOW + timedelta(hours=1)) == {"rows_in": 2, "rows_out": 1, "rows_quarantined": 1, "files": 1}
    assert landing.stored() == ["a", "b", "c"]
    assert landing.broken() == [("messages/a.jsonl", 4, "not_json")]
    assert landing.lake.position(EXPECTED.table, "landing:messages/a.jsonl") == 4


def test_new_columns_widen_the_table(landing):
    landing.write("a")
    landing.ingest()
    with landing.file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(GOOD | {"id": "b", "extra": 5}) + "\n")
    landing.ingest()
    assert landing.lake.read(EXPECTED.table).sort("id")["extra"].to_list() == [None, 5]


def test_names_that_are_ours_in_other_case_are_refused(landing):
    with landing.file.open("a", encoding="utf-8") as stream:
        stream.writelines(
            json.dumps(GOOD | {name: "x"}) + "\n" for name in ("Source", "EVENT_DATE", "Received_At", "ID")
        )
    landing.ingest()
    assert landing.stored() == []
    assert [rule for _, _, rule in landing.broken()] == ["column_name"] * 4


@pytest.mark.usefixtures("small_chunks")
def test_files_are_read_in_chunks_across_files(landing):
    landing.write(*(f"a{i}" for i in range(6)))
    landing.write(*(f"b{i}" for i in range(3)), file="b.jsonl")
    landing.write("c0", None, "c2", file="c.jsonl")
    assert landing.ingest() == {"rows_in": 12, "rows_out": 11, "rows_quarantined": 1, "files": 3}
    assert landing.stored() == [*(f"a{i}" for i in range(6)), *(f"b{i}" for i in range(3)), "c0", "c2"]
    landing.write("a6")
    landing.write("b3", "b4", file="b.jsonl")
    assert landing.ingest()["rows_in"] == 3
    assert len(landing.stored()) == len(set(landing.stored())) == 14


@pytest.mark.parametrize("rows", [3, 4, 8], ids=["less than a chunk", "a chunk", "two chunks"])
@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_grew_by_nothing_is_not_read_again_later(landing, rows):
    landing.write(*(f"{i}" for i in range(rows)))
    landing.ingest()
    with landing.file.open("a", encoding="utf-8") as stream:
        stream.write("\n")
    landing.ingest()
    landing.write("new")
    landing.ingest()
    assert landing.stored() == sorted([*(f"{i}" for i in range(rows)), "new"])


def test_an_empty_file_and_no_file_make_an_empty_table(landing):
    assert landing.ingest() == {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "files": 1}
    assert landing.stored() == landing.broken() == []
    landing.file.unlink()
    assert landing.ingest() == {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "files": 0}


@pytest.mark.parametrize(
    "later",
    [
        timedelta(minutes=5),
        pytest.param(
            timedelta(days=1),
        ),
    ],
    ids=["the same day", "after midnight"],
)
@pytest.mark.usefixtures("small_chunks")
def test_a_kill_between_quarantine_and_append_loses_and_doubles_nothing(landing, later):
    landing.write("a", None, "b", "c", None, "d")
    with pytest.raises(KilledError):
        landing.ingest(lake=DyingBeforeAppend(uri=landing.lake.uri))
    assert landing.stored() == []
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json")]
    assert landing.ingest(NOW + later)["rows_in"] == 6
    assert landing.stored() == ["a", "b", "c", "d"]
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json"), ("messages/a.jsonl", 5, "not_json")]


@pytest.mark.usefixtures("small_chunks")
def test_a_kill_between_chunks_goes_on_where_it_was(landing):
    landing.write(*(f"{i}" for i in range(9)))

    class DyingLater(DyingBeforeAppend):
        def append_once(self, table, rows, started, reached):
            if started and started["landing:messages/a.jsonl"] is None:
                Lakehouse.append_once(self, table, rows, started, reached)
            else:
                super().append_once(table, rows, started, reached)

    with pytest.raises(KilledError):
        landing.ingest(lake=DyingLater(uri=landing.lake.uri))
    assert len(landing.stored()) == 4
    assert landing.ingest()["rows_in"] == 5
    assert landing.stored() == [f"{i}" for i in range(9)]


def test_a_rival_that_read_the_same_file_first_wins_and_nothing_is_doubled(landing):
    landing.write("a", None, "b")

    class Overtaken(Lakehouse):
        def append_once(self, table, rows, started, reached):
            if rows.height:
                landing.ingest()
            super().append_once(table, rows, started, reached)

    with pytest.raises(Exception, match="another writer has read the same sources"):
        landing.ingest(lake=Overtaken(uri=landing.lake.uri))
    assert landing.stored() == ["a", "b"]
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json")]


def cleaned_up(lake):
    """Put a table's files together and forget its log up to a checkpoint, as if all of it were old."""
    delta = lake.open(EXPECTED.table)
    delta.optimize.compact()
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    delta.create_checkpoint()
    delta.cleanup_metadata()
    log = Path(lake.location(EXPECTED.table)) / "_delta_log"
    assert len(list(log.glob("*.json"))) <= 1


TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


class Things:
    """A database's table of things, the lakehouse that it is ingested into, and what that holds of it."""

    def __init__(self, folder):
        self.file, self.lake = folder / "app.db", Lakehouse(uri=str(folder / "lake"))
        self.expected = replace(EXPECTED, sql_table="things")
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
        count = ingest(lake or self.lake, self.expected, [], now, receiving.sources_of(self.expected))
        return count["rows_in"], count["rows_out"], count["rows_quarantined"]

    def stored(self):
        return sorted(self.lake.read(EXPECTED.table).select("id", "count").rows())

    def broken(self):
        return sorted(self.lake.read(QUARANTINE).select("source", "rule").rows())

    def has_unread(self):
        return receiving.has_unread(self.lake, self.expected)


@pytest.fixture
def things(tmp_path):
    kept = current()
    yield Things(tmp_path)
    configure(**kept.model_dump())


def test_rows_of_a_database_are_ingested_once_with_how_far(things):
    assert not things.has_unread()
    things.add(("a", 0, 1), ("b", 5, 2))
    assert things.has_unread()
    assert things.ingest() == (2, 2, 0)
    version = things.lake.version(EXPECTED.table)
    assert not things.has_unread()
    assert things.ingest() == (0, 0, 0)
    assert things.lake.version(EXPECTED.table) == version
    row = things.lake.read(EXPECTED.table).sort("id").row(1, named=True)
    assert (row["source"], row["at"], row[DAY]) == ("database:things", TODAY + timedelta(seconds=5), TODAY.date())
    newest = TODAY + timedelta(seconds=5)
    assert things.lake.position(EXPECTED.table, "database:things") == int(newest.timestamp()) * 1_000_000


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


def test_a_new_column_of_a_database_widens_the_table_and_makes_no_new_versions(things):
    things.add(("a", 0, 1))
    things.ingest()
    things.run("ALTER TABLE things ADD COLUMN region TEXT")
    assert things.ingest() == (0, 0, 0)
    things.run("INSERT INTO things SELECT 'b', at, 1, 'north' FROM things")
    assert things.ingest() == (1, 1, 0)
    assert things.lake.read(EXPECTED.table).sort("id")["region"].to_list() == [None, "north"]


@pytest.mark.usefixtures("small_chunks")
def test_a_kill_at_any_commit_of_a_database_loses_and_doubles_nothing(things):
    things.add(*((f"{i}", i % 3, 1) for i in range(10)), ("", 1, 1))

    class DyingAt(Lakehouse):
        """A lakehouse whose process dies before, or after, one of its commits."""

        def append_once(self, table, rows, started, reached):
            if not rows.height:
                return super().append_once(table, rows, started, reached)
            deaths.append("before" if len(deaths) % 2 == 0 else "after")
            if deaths[-1] == "after":
                super().append_once(table, rows, started, reached)
            raise KilledError

    deaths = []
    for _ in range(4):
        with pytest.raises(KilledError):
            things.ingest(DyingAt(uri=things.lake.uri))
    things.ingest()
    assert things.ingest() == (0, 0, 0)
    assert things.stored() == sorted((f"{i}", 1) for i in range(10))
    assert things.broken() == [("database:things", "null:id")]


def test_of_two_that_read_a_database_at_once_one_appends(things):
    things.add(("a", 100, 1))
    things.ingest()
    things.add(("late", 50, 1))

    class Overtaken(Lakehouse):
        def append_once(self, table, rows, started, reached):
            if rows.height:
                things.ingest()
            super().append_once(table, rows, started, reached)

    with pytest.raises(CommitFailedError, match="another writer has read the same sources"):
        things.ingest(Overtaken(uri=things.lake.uri))
    assert things.stored() == [("a", 1), ("late", 1)]


@pytest.mark.usefixtures("small_chunks")
def test_a_large_table_is_committed_a_chunk_at_a_time(things):
    things.add(*((f"{i}", i, 1) for i in range(11)))
    assert things.ingest() == (11, 11, 0)
    assert things.lake.position(EXPECTED.table, "database:things:commits") == 3
    assert len(things.stored()) == 11


def test_what_is_kept_of_a_database_survives_checkpoint_compaction_and_clean_up_of_the_log(things):
    things.add(("a", 0, 1))
    things.ingest()
    things.add(("b", 1, 1))
    things.ingest()
    cleaned_up(things.lake)
    assert things.ingest() == (0, 0, 0)
    assert things.lake.position(EXPECTED.table, "database:things:commits") == 2


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
        ingest(things.lake, things.expected, files, NOW, receiving.sources_of(things.expected))
    assert things.stored() == [("1", None), ("a", 1)]


@pytest.mark.slow
def test_users_and_labels_of_postgres_become_bronze_tables(things, server):
    configure(postgres_dsn=server, landing=current().landing)
    assets = [user_profiles.user_profiles, review_labels.review_labels]
    tables = [user_profiles.EXPECTED, review_labels.EXPECTED]

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
        assert [receiving.has_unread(things.lake, one) for one in tables] == [True, True]
        assert materialise() == [3, 1]
        session.execute("UPDATE users SET consent = false, updated_at = now() WHERE user_id = 'u'")
        session.execute("UPDATE labels SET label = 'not-hate', updated_at = now()")
        assert materialise() == [1, 1]
        assert [receiving.has_unread(things.lake, one) for one in tables] == [False, False]
    users = things.lake.read("bronze/user_profiles").sort("user_id", "updated_at")
    assert users.select("user_id", "consent", "region").rows() == [
        ("u", True, "north"),
        ("u", False, "north"),
        ("v", False, None),
    ]
    labels = things.lake.read("bronze/review_labels").sort("updated_at", nulls_last=False)
    assert labels["label"].to_list() == ["hate", "not-hate"]
    assert things.broken() == [("database:users", "null:user_id")]


class Feed:
    """An API's messages, the lakehouse that they are pulled into, and what that holds of them."""

    def __init__(self, folder, api):
        self.api, self.lake, self.expected = api, Lakehouse(uri=str(folder / "lake")), replace(EXPECTED, pulled=True)
        configure(pull_url=api.url, landing=folder, pull_requests_per_second=1_000)

    def add(self, *ids):
        self.api.items += [GOOD | {"id": one} for one in ids]

    def ingest(self, lake=None):
        count = ingest(lake or self.lake, self.expected, [], NOW, receiving.sources_of(self.expected))
        return count["rows_in"], count["rows_out"], count["rows_quarantined"]

    def stored(self):
        return sorted(self.lake.read(EXPECTED.table)["id"].to_list())

    def broken(self):
        return sorted(self.lake.read(QUARANTINE)["rule"].to_list())

    def has_unread(self):
        return receiving.has_unread(self.lake, self.expected)


@pytest.fixture
def feed(tmp_path):
    kept = current()
    with serving() as api:
        yield Feed(tmp_path, api)
    configure(**kept.model_dump())


def test_an_api_is_ingested_once_with_how_far(feed):
    assert not feed.has_unread()
    feed.add("a", "b", "c", "d")
    assert feed.has_unread()
    assert feed.ingest() == (4, 4, 0)
    version = feed.lake.version(EXPECTED.table)
    assert not feed.has_unread()
    assert feed.ingest() == (0, 0, 0)
    assert feed.lake.version(EXPECTED.table) == version
    feed.add("e", "f", "g")
    assert feed.has_unread()
    assert feed.ingest() == (3, 3, 0)
    assert feed.stored() == list("abcdefg")
    (source,) = receiving.sources_of(feed.expected)
    assert feed.lake.read(EXPECTED.table)["source"].unique().to_list() == [source.name]


def test_an_api_that_grew_by_just_a_page_is_looked_at_beyond_it(feed):
    feed.add("a", "b", "c")
    feed.ingest()
    feed.add("d")
    assert feed.has_unread()
    feed.ingest()
    assert feed.stored() == list("abcd")


def test_broken_items_are_quarantined_once(feed):
    feed.add("a", "")
    feed.api.items += ["text", {"id": "no time"}, {"id": "x", "at": float("nan")}]
    assert feed.ingest() == (5, 2, 3)
    assert feed.ingest() == (0, 0, 0)
    assert feed.stored() == ["a", "no time"]
    assert feed.broken() == ["bad_timestamp:at", "not_an_object", "null:id"]


def test_a_kill_at_any_commit_of_an_api_loses_and_doubles_nothing(feed):
    feed.add(*"abcdefgh", "", "")

    class Dying(Lakehouse):
        """A lakehouse whose process dies before, or after, one of its commits, or between quarantine and append."""

        def append_once(self, table, rows, started, reached):
            if not rows.height:
                return super().append_once(table, rows, started, reached)
            deaths.append("before" if len(deaths) % 2 == 0 else "after")
            if deaths[-1] == "after":
                super().append_once(table, rows, started, reached)
            raise KilledError

    deaths = []
    for _ in range(4):
        with pytest.raises(KilledError):
            feed.ingest(Dying(uri=feed.lake.uri))
    # A page that holds nothing but broken items moves the cursor too.
    feed.ingest()
    assert feed.ingest() == (0, 0, 0)
    assert feed.stored() == list("abcdefgh")
    assert feed.broken() == ["null:id"]


def test_of_two_that_read_an_api_at_once_one_appends(feed):
    feed.add(*"abcde")

    class Overtaken(Lakehouse):
        def append_once(self, table, rows, started, reached):
            if rows.height:
                feed.ingest()
            super().append_once(table, rows, started, reached)

    with pytest.raises(CommitFailedError, match="another writer has read the same sources"):
        feed.ingest(Overtaken(uri=feed.lake.uri))
    assert feed.stored() == list("abcde")


def test_a_page_that_is_none_stops_at_what_was_read_and_the_next_goes_on(feed):
    feed.add(*"abcdefg")
    page = feed.api.page
    feed.api.page = lambda query: b"garbage" if query.get("cursor") == ["at-3"] else page(query)
    with pytest.raises(SourceError, match="gave no page"):
        feed.ingest()
    assert feed.stored() == list("abc")
    assert not feed.has_unread()
    feed.api.page = page
    assert feed.has_unread()
    feed.ingest()
    assert feed.stored() == list("abcdefg")


def test_the_cursor_survives_checkpoint_compaction_and_clean_up_of_the_log(feed):
    feed.add(*"abcdefg")
    feed.ingest()
    cleaned_up(feed.lake)
    feed.api.asked.clear()
    assert feed.ingest() == (0, 0, 0)
    assert [query["cursor"] for query, *_ in feed.api.asked] == [["at-6"]]
