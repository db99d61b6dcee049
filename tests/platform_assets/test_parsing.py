import json
from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from platform_assets import parsing
from platform_assets.parsing import MIN_BULK, ROW, TIME, UNDECLARED, SourceSchema, declared, parse_records
from platform_assets.publishing import quarantine_rows, to_broken_rows
from resources.lakehouse.days import DAY
from resources.landing.records import Record, parse_line

NOW, FIRST_DAY = datetime(2026, 11, 10, 12, tzinfo=UTC), date(2025, 1, 1)
SCHEMA = SourceSchema(
    table="bronze/things",
    folder="messages",
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
NAMES = st.sampled_from([*SCHEMA.columns, *ROW, UNDECLARED, "extra", "Extra", "ID", "a b", ""]) | st.text(max_size=4)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5).flatmap(
    lambda fields: st.sampled_from([fields, GOOD | fields, fields | GOOD])
)


def received(*fields):
    parsing = [Record(position, one) for position, one in enumerate(fields, 1)]
    return parse_records(parsing, SCHEMA, "messages/a.jsonl", NOW, FIRST_DAY)


def rule(fields):
    rows, broken = received(fields)
    assert rows.height + broken.height == 1
    return broken["rule"].item() if broken.height else None


def value(name, given_value):
    rows, broken = received(GOOD | {name: given_value})
    assert broken.is_empty()
    return rows[name].item()


def value_of_undeclared(text):
    rows, broken = received(GOOD | {"text": text})
    assert broken.is_empty()
    return rows[UNDECLARED].item()


def test_a_record_becomes_a_typed_row_with_its_place_and_day():
    fields = {"id": "7", "at": "2026-11-09T23:30:00-02:00", "count": 3, "price": 2, "open": True}
    rows, broken = received(fields | {"parts": [{"a": 1}], "kind": "small", "body": "ü"})
    assert broken.is_empty()
    assert rows.schema == pl.Schema({**SCHEMA.columns, UNDECLARED: pl.String, **ROW})
    assert rows.row(0, named=True) == {
        "id": "7",
        "at": datetime(2026, 11, 10, 1, 30, tzinfo=UTC),
        "count": 3,
        "price": 2.0,
        "open": True,
        "body": "ü".encode(),
        "parts": '[{"a":1}]',
        "kind": "small",
        UNDECLARED: None,
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
        ({"more": float("nan")}, "out_of_range:undeclared"),
        ({"more": {"deep": [float("inf")]}}, "out_of_range:undeclared"),
        (dict.fromkeys(("a b", "", "größe", "�", "x" * 65, "1st", "ID", "more", "More"), 1), None),
        ({f"c{i}": i for i in range(1_000)}, None),
    ],
)
def test_each_rule(changes, expected):
    assert rule(GOOD | changes) == expected


def test_unreadable_records_keep_their_rule_and_beginning():
    rows, broken = parse_records(
        [
            parse_line(b"{oops", 1),
            parse_line(b"[1]", 2),
            parse_line(b"\xff{}", 3),
            parse_line(b'{"id": NaN}', 4),
            Record(5, GOOD),
        ],
        SCHEMA,
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
    assert json.loads(value_of_undeclared("a\ud800b\udc00")) == {"text": "a?b?"}
    assert value("body", "\ud800") == b"?"
    assert value("parts", {"k\ud800": "v"}) == '{"k?":"v"}'


@given(st.dictionaries(NAMES.filter(lambda name: name not in SCHEMA.columns), VALUES, min_size=1, max_size=5))
def test_no_undeclared_field_is_a_column_or_changes_one(fields):
    try:
        said = json.dumps(fields, allow_nan=False, ensure_ascii=False).encode("utf-8", "replace").decode()
    except ValueError:
        assert rule(GOOD | fields) == "out_of_range:undeclared"
        return
    (plain, _), (rows, broken) = received(GOOD), received(GOOD | fields)
    assert broken.is_empty()
    assert_frame_equal(rows.drop(UNDECLARED), plain.drop(UNDECLARED))
    assert json.loads(rows[UNDECLARED].item()) == json.loads(said)


def test_a_field_may_change_its_type_from_record_to_record():
    values = [1, 0.97, "n/a", None, True, {"a": [1]}, [], 2**70]
    for some in (values, values * MIN_BULK):
        rows, broken = received(*(GOOD | {"score": one} for one in some))
        assert broken.is_empty()
        assert [json.loads(one)["score"] for one in rows[UNDECLARED]] == some


def test_no_records_make_an_empty_table_of_the_declared_columns():
    rows, broken = received()
    assert (rows.height, broken.height) == (0, 0)
    assert rows.schema == pl.Schema({**SCHEMA.columns, UNDECLARED: pl.String, **ROW})


@settings(max_examples=150)
@given(st.lists(OBJECTS, max_size=6))
@example([GOOD | {"extra": float("inf")}, GOOD | {"extra": 2**64}, GOOD | {"extra": [float("nan")]}])
def test_every_object_is_a_row_or_quarantined(objects):
    rows, broken = received(*objects)
    assert rows.height + broken.height == len(objects)
    assert sorted([*rows["position"], *broken["position"]]) == list(range(1, len(objects) + 1))
    assert broken["rule"].str.len_chars().min() != 0
    assert len({name.lower() for name in rows.columns}) == len(rows.columns)
    names = quarantine_rows(SCHEMA.table, to_broken_rows(broken))
    assert names.height == broken.height
    assert names["quarantine_id"].is_unique().all()


@settings(max_examples=60)
@given(st.lists(OBJECTS, max_size=5))
def test_receiving_twice_gives_the_same(objects):
    once, twice = received(*objects), received(*objects)
    assert_frame_equal(once[0], twice[0])
    assert_frame_equal(once[1], twice[1])


MOMENTS = [
    "2026-11-10T08:00:00Z",
    "2026-11-10T08:00:00.5+00:00",
    "2026-11-10T08:00:00.1234567Z",
    "2026-11-10T08:00:00+02:00",
    "2026-11-10T23:59:60Z",
    "2026-11-10T24:00:00Z",
    "2026-02-30T08:00:00Z",
    "2026-11-13T08:00:00Z",
    "1999-01-01T00:00:00Z",
    "2026-11-10",
    "",
]
NEARLY = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", "", "\ud800", "ü"]), "at": st.sampled_from(MOMENTS)},
    optional={
        "count": st.sampled_from([0, -1, 2**63 - 1, 2**63, -(2**70), 1.0, True]),
        "price": st.sampled_from([0.5, 1, 1e300, 1e301, float("inf"), float("nan"), 2**70, 10**400]),
        "open": st.booleans(),
        "body": st.text(max_size=3),
        "parts": st.sampled_from(["[]", [1], {"a": "\ud800"}]),
        "kind": st.sampled_from(["small", "huge"]),
        "extra": st.sampled_from(["text", 1, None]),
    },
)


@settings(max_examples=200)
@given(st.lists(st.tuples(NEARLY, st.integers(1, 2 * MIN_BULK)), max_size=4), st.randoms())
def test_many_records_alike_give_what_each_alone_gives(kinds, chance):
    objects = [fields for fields, times in kinds for _ in range(times)]
    chance.shuffle(objects)
    together = received(*objects)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parsing, "MIN_BULK", len(objects) + 1)
        alone = received(*objects)
    for side, other in zip(together, alone, strict=True):
        assert_frame_equal(side, other)


@settings(max_examples=100)
@given(st.lists(OBJECTS | NEARLY, min_size=MIN_BULK, max_size=3 * MIN_BULK), st.binary(max_size=9))
def test_lines_that_nobody_has_read_yet_give_what_read_ones_give(objects, noise):
    lines = [*(json.dumps(fields).encode() for fields in objects), noise, b'{"id": "1"} x', b"\xef\xbb\xbf{}"]
    unread = [Record(position, line=line) for position, line in enumerate(lines, 1)]
    read = [parse_line(line, position) for position, line in enumerate(lines, 1)]
    for side, other in zip(*(parse_records(some, SCHEMA, "f", NOW) for some in (unread, read)), strict=True):
        assert_frame_equal(side, other)


def test_no_depth_of_nesting_crashes():
    for depth in range(900, 1_010):
        record = parse_line(b'{"id": "1", "x": ' + b"[" * depth + b"]" * depth + b"}", 1)
        rows, broken = parse_records([record], SCHEMA, "f", NOW, FIRST_DAY)
        assert rows.height + broken.height == 1


BEFORE = replace(SCHEMA, columns={name: SCHEMA.columns[name] for name in ("id", "at")}, allowed={})


def declared_since(*fields):
    """Return rows that were received when only two fields were declared, as they are now."""
    parsing = [Record(position, one) for position, one in enumerate(fields, 1)]
    rows, broken = parse_records(parsing, BEFORE, "messages/a.jsonl", NOW, FIRST_DAY)
    assert broken.is_empty()
    return declared(rows, SCHEMA)


@settings(max_examples=100)
@given(
    st.lists(st.dictionaries(st.sampled_from(["count", "price", "open", "parts", "kind", "more"]), VALUES), max_size=9)
)
@example([{"open": True}, {"open": "yes"}, {"more": {"open": True}}, {"open": None}])
@example([{"price": 1}, {"count": "1"}, {"count": 1.0}, {"kind": "huge"}, {"parts": [1]}])
def test_a_field_that_is_declared_later_is_as_if_it_had_been_declared_then_where_its_value_fits(more):
    try:
        found = declared_since(*(GOOD | one for one in more))
    except AssertionError:
        return  # a number that JSON has not breaks its record, whatever is declared
    for name in ("count", "price", "open", "parts", "kind"):
        for one, row in zip(more, found.iter_rows(named=True), strict=True):
            now, broken = received(GOOD | {name: one.get(name)})
            assert row[name] == (now[name].item() if broken.is_empty() else None)


def test_what_is_declared_later_has_its_type_and_its_place():
    moment = {"body": "ü", "at": "2026-11-10T08:00:00Z"}
    found = declared_since(GOOD | moment | {"open": True, "undeclared": 1}, GOOD | {"body": 5, "source": "theirs"})
    assert found.schema == pl.Schema({**SCHEMA.columns, **ROW})
    assert found.select("body", "open", "source", "position").rows() == [
        ("ü".encode(), True, "messages/a.jsonl", 1),
        (None, None, "messages/a.jsonl", 2),
    ]


def test_what_a_row_has_comes_before_what_was_undeclared_of_it():
    rows, _ = received(GOOD | {"count": 3}, GOOD)
    rows = rows.with_columns(pl.lit('{"count":7,"x":{"count":9}}').alias(UNDECLARED))
    assert declared(rows, SCHEMA)["count"].to_list() == [3, 7]


def test_rows_of_a_table_that_has_no_such_column_yet_have_it_as_null():
    rows, _ = received(GOOD)
    assert declared(rows.drop("kind", "open"), SCHEMA).select("kind", "open").row(0) == (None, None)
    assert declared(rows.clear(), SCHEMA).schema == pl.Schema({**SCHEMA.columns, **ROW})
