import json
import time
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from governance import catalog
from platform_assets.publishing import (
    MAX_ROW_CHARACTERS,
    QUARANTINE,
    SYSTEMIC_FAILURES,
    PartitionWrite,
    RowsLostError,
    apply_stage,
    publish_increment,
    quarantine,
    quarantine_rows,
    reconcile,
    to_broken_rows,
    write_checks,
)
from resources.lakehouse.days import DAY
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse

TABLE = "silver/user_sync"
NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
DAYS = ["2026-11-09", "2026-11-10"]
SCHEMA = {
    "sync_id": pl.String,
    "user_id": pl.String,
    "partner": pl.String,
    "tenant_id": pl.String,
    "consent": pl.Boolean,
    "source": pl.String,
    "position": pl.Int64,
    "received_at": pl.Datetime("us", "UTC"),
    DAY: pl.Date,
}


def staged(*rows, day=DAYS[0]):
    """Return staged rows of (sync_id, user_id, partner), in their places in a file of that day."""
    return pl.DataFrame(
        [
            (*row, "acme", True, f"user_sync/{day}.jsonl", place, NOW, date.fromisoformat(day))
            for place, row in enumerate(rows, 1)
        ],
        schema=SCHEMA,
        orient="row",
    )


BOTH = pl.concat(
    [
        staged(("a", "u1", "p"), ("b", None, "p"), ("a", "u1", "p")),
        staged(("c", "u2", "p"), ("d", "u3", None), day=DAYS[1]),
    ]
)


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path / "lake"))


def written(lake, days=DAYS, checkpoints=None):
    versions = [lake.version(one) if lake.exists(one) else None for one in (QUARANTINE, TABLE)]
    return PartitionWrite(lake, TABLE, days, time.perf_counter(), checkpoints or {}, (versions[0], versions[1]))


def as_they_are(rows):
    """Make of rows what they are: a stage that does nothing."""
    return rows


def published(lake):
    return lake.read(TABLE).sort("sync_id", "user_id").select("sync_id", "user_id", DAY).rows()


def rejected(lake):
    return lake.read(QUARANTINE).sort("rule", "position").select("table", "rule", "source", "position").rows()


def test_every_row_is_published_or_quarantined_with_its_rule(lake):
    result = written(lake).publish(as_they_are, BOTH)
    assert published(lake) == [("a", "u1", date(2026, 11, 9)), ("c", "u2", date(2026, 11, 10))]
    assert rejected(lake) == [
        (TABLE, "duplicate_key", "user_sync/2026-11-09.jsonl", 3),
        (TABLE, "partner_given", "user_sync/2026-11-10.jsonl", 2),
        (TABLE, "user_given", "user_sync/2026-11-09.jsonl", 2),
    ]
    assert result.metadata["rows_in"] == 5
    assert result.metadata["dagster/row_count"] == 2
    assert result.metadata["rows_quarantined"] == 3
    assert result.metadata["rules_broken"] == {"duplicate_key": 1, "partner_given": 1, "user_given": 1}
    accounted, rules = result.check_results
    assert accounted.passed
    assert not rules.passed


def test_publishing_again_leaves_the_same_rows(lake):
    written(lake).publish(as_they_are, BOTH)
    before = lake.read(TABLE).sort("sync_id"), lake.read(QUARANTINE).sort("quarantine_id")
    written(lake).publish(as_they_are, BOTH.reverse())
    assert_frame_equal(lake.read(TABLE).sort("sync_id"), before[0])
    assert_frame_equal(lake.read(QUARANTINE).sort("quarantine_id"), before[1])


def test_publishing_replaces_its_days_and_no_others(lake):
    written(lake).publish(as_they_are, BOTH)
    written(lake, DAYS[:1]).publish(as_they_are, staged(("x", "u9", "p")))
    assert published(lake) == [("c", "u2", date(2026, 11, 10)), ("x", "u9", date(2026, 11, 9))]
    assert [row[1] for row in rejected(lake)] == ["partner_given"]


def test_rows_of_other_days_decide_what_counts_and_are_written_with_their_own_days_only(lake):
    earlier = staged(("c", "u0", "p"))
    for order in (DAYS, DAYS[::-1]):
        for day in order:
            result = written(lake, [day]).publish(as_they_are, pl.concat([BOTH, earlier]))
            assert result.metadata["rows_in"] == {DAYS[0]: 4, DAYS[1]: 2}[day]
        assert published(lake) == [("a", "u1", date(2026, 11, 9)), ("c", "u0", date(2026, 11, 9))]
        assert [row[1:] for row in rejected(lake)] == [
            ("duplicate_key", "user_sync/2026-11-10.jsonl", 1),
            ("duplicate_key", "user_sync/2026-11-09.jsonl", 3),
            ("partner_given", "user_sync/2026-11-10.jsonl", 2),
            ("user_given", "user_sync/2026-11-09.jsonl", 2),
        ]


def test_a_quarantine_of_another_table_stays(lake):
    other = staged(("z", "u", "p")).with_columns(rule=pl.lit("not_json"))
    quarantine(lake, "bronze/user_sync", to_broken_rows(other))
    written(lake).publish(as_they_are, BOTH)
    assert [row[:2] for row in rejected(lake)].count(("bronze/user_sync", "not_json")) == 1
    assert len(rejected(lake)) == 4


def test_a_deleted_day_comes_back_when_it_is_published_again(lake):
    written(lake).publish(as_they_are, BOTH)
    before = published(lake)
    lake.open(TABLE).delete(f"{DAY} = '{DAYS[0]}'")
    assert published(lake) == before[1:]
    written(lake, DAYS[:1]).publish(as_they_are, BOTH.filter(pl.col(DAY) == date(2026, 11, 9)))
    assert published(lake) == before


def test_days_without_rows_are_emptied(lake):
    written(lake).publish(as_they_are, BOTH)
    written(lake, DAYS[1:]).publish(as_they_are, staged())
    assert published(lake) == [("a", "u1", date(2026, 11, 9))]
    assert [row[1] for row in rejected(lake)] == ["duplicate_key", "user_given"]


def test_rows_of_which_the_stage_says_what_they_break_are_quarantined_with_the_others(lake):
    of_u2 = pl.when(pl.col("user_id") == "u2").then(pl.lit("unheard_of"))
    result = written(lake).publish(lambda rows: rows.with_columns(rule=of_u2), BOTH)
    assert result.metadata["rules_broken"]["unheard_of"] == 1
    assert (TABLE, "unheard_of", "user_sync/2026-11-10.jsonl", 1) in rejected(lake)
    assert "rule" not in lake.columns(TABLE)


def test_a_row_on_which_the_stage_raises_is_quarantined_as_it_was_and_stops_no_other(lake):
    result = written(lake).publish(raising_on({"u2"}), BOTH)
    assert published(lake) == [("a", "u1", date(2026, 11, 9))]
    assert result.metadata["rules_broken"]["raised:TypeError"] == 1
    row = lake.read(QUARANTINE).filter(rule="raised:TypeError").row(0, named=True)
    assert json.loads(row["row"]) == {
        "sync_id": "c",
        "user_id": "u2",
        "partner": "p",
        "tenant_id": "acme",
        "consent": True,
    }
    assert (row["source"], row["position"], str(row[DAY])) == ("user_sync/2026-11-10.jsonl", 1, DAYS[1])


@pytest.mark.parametrize("consent", [False, None])
def test_nothing_of_a_person_is_kept_without_consent(lake, consent):
    rows = staged(("a", "u1", "p"), ("b", "u2", None)).with_columns(consent=pl.lit(consent, pl.Boolean))
    written(lake).publish(as_they_are, rows)
    assert lake.read(TABLE)["user_id"].to_list() == [None]
    assert "u2" not in lake.read(QUARANTINE)["row"].item()
    added = staged(("c", "u3", "p"), day=DAYS[1]).with_columns(consent=pl.lit(consent, pl.Boolean))
    assert increment(lake, added)["user_id"].to_list() == [None]
    assert lake.read(TABLE)["user_id"].null_count() == 2


@pytest.mark.parametrize("stage", [lambda rows: rows.head(4), lambda rows: pl.concat([rows, rows.head(1)])])
def test_nothing_is_written_when_rows_are_lost_or_doubled(lake, stage):
    with pytest.raises(RowsLostError, match=f"{TABLE}: 5 rows in, but"):
        written(lake).publish(stage, BOTH)
    assert not lake.exists(TABLE)
    assert not lake.exists(QUARANTINE)


def test_a_stage_may_make_several_rows_of_one_or_none_where_it_says_so(lake):
    result = written(lake).publish(lambda rows: pl.concat([rows, rows]).filter(user_id="u1"), BOTH, several=True)
    assert published(lake) == [("a", "u1", date(2026, 11, 9))]
    assert (result.metadata["rows_in"], result.metadata["rows_quarantined"]) == (4, 3)
    assert lake.read(QUARANTINE)["quarantine_id"].is_unique().all()


def test_the_state_of_the_inputs_is_kept_with_the_rows(lake):
    written(lake, checkpoints={"inputs:2026-11-09": 7}).publish(as_they_are, BOTH)
    assert lake.checkpoint(TABLE, "inputs:2026-11-09") == 7


def raising_on(users):
    """Return a stage that raises where any row is of one of some users."""

    def stage(rows):
        if set(rows["user_id"]) & users:
            raise TypeError("a list where a text should be")
        return rows.with_columns(made=pl.lit(value=True))

    return stage


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["u", "v", "bad", "worse", None]), max_size=40))
def test_whatever_rows_a_stage_raises_on_the_others_come_out_in_their_order_and_counts_add_up(users):
    rows = staged(*((str(number), user, "p") for number, user in enumerate(users)))
    made, broken = apply_stage(raising_on({"bad", "worse"}), rows)
    bad = [number for number, user in enumerate(users, 1) if user in ("bad", "worse")]
    assert made.columns == [*rows.columns, "made"]
    assert made["position"].to_list() == [n for n in range(1, len(users) + 1) if n not in bad]
    assert sorted(broken["position"]) == bad
    assert broken["rule"].to_list() == ["raised:TypeError"] * len(bad)
    assert made.height + broken.height == rows.height
    assert quarantine_rows(TABLE, broken)["quarantine_id"].is_unique().all()


def test_a_stage_that_raises_on_each_of_many_rows_raises_and_on_each_of_few_quarantines_them():
    few, many = (
        staged(*((str(n), "bad", "p") for n in range(count))) for count in (SYSTEMIC_FAILURES - 1, SYSTEMIC_FAILURES)
    )
    made, broken = apply_stage(raising_on({"bad"}), few)
    assert (made.height, broken.height) == (0, SYSTEMIC_FAILURES - 1)
    with pytest.raises(TypeError, match="a list where a text should be"):
        apply_stage(raising_on({"bad"}), many)
    one_is_good = many.with_columns(user_id=pl.when(position=9).then(pl.lit("u")).otherwise("user_id"))
    made, broken = apply_stage(raising_on({"bad"}), one_is_good)
    assert (made["position"].to_list(), broken.height) == ([9], SYSTEMIC_FAILURES - 1)


@pytest.mark.parametrize("error", [OSError, MemoryError])
def test_what_is_no_fault_of_a_row_is_raised(error):
    def stage(_):
        raise error

    with pytest.raises(error):
        apply_stage(stage, BOTH)


def test_a_row_on_which_a_file_error_is_raised_is_quarantined():
    def stage(rows):
        if "c" in rows["sync_id"]:
            raise OSError("cannot identify image file")
        return rows

    made, broken = apply_stage(stage, BOTH)
    assert "c" not in made["sync_id"]
    assert broken["rule"].to_list() == ["raised:OSError"]


def test_a_stage_that_raises_on_no_rows_at_all_raises():
    def stage(_):
        raise ValueError("a table is missing")

    for rows in (BOTH, BOTH.head(1), BOTH.clear()):
        with pytest.raises(ValueError, match="a table is missing"):
            apply_stage(stage, rows)


def test_columns_of_parts_that_differ_in_type_alone_are_put_together():
    def stage(rows):
        if rows["user_id"].to_list().count("u1") > 1:
            raise ValueError
        return rows.with_columns(found=pl.lit(None) if "u3" in rows["user_id"] else pl.lit("x"))

    made, broken = apply_stage(stage, BOTH)
    assert (made.height, broken.height) == (5, 0)
    assert made["found"].to_list().count(None) < 5


def increment(lake, rows, stage=as_they_are, **more):
    return publish_increment(lake, TABLE, stage, rows, KeyIndex(lake, TABLE), **more)


def test_an_increment_is_added_and_taken_again_leaves_the_same_rows(lake):
    kept = increment(lake, BOTH)
    assert sorted(kept["sync_id"]) == ["a", "c"]
    before = lake.read(TABLE).sort("sync_id"), lake.read(QUARANTINE).sort("quarantine_id")
    assert sorted(increment(lake, BOTH)["sync_id"]) == ["a", "c"]
    assert_frame_equal(lake.read(TABLE).sort("sync_id"), before[0])
    assert_frame_equal(lake.read(QUARANTINE).sort("quarantine_id"), before[1])
    assert stale_days(lake, TABLE, []) == []


def test_a_row_with_a_stored_key_is_quarantined_whatever_its_day_and_another_organisations_is_not(lake):
    increment(lake, staged(("a", "u1", "p")))
    again = staged(("a", "u2", "p"), day=DAYS[1])
    theirs = again.with_columns(tenant_id=pl.lit("other"), position=pl.lit(2, pl.Int64))
    assert increment(lake, pl.concat([again, theirs]))["tenant_id"].to_list() == ["other"]
    assert published(lake) == [("a", "u1", date(2026, 11, 9)), ("a", "u2", date(2026, 11, 10))]
    assert [row[1:] for row in rejected(lake)] == [("duplicate_key", "user_sync/2026-11-10.jsonl", 1)]
    assert stale_days(lake, TABLE, []) == []


def test_where_a_row_of_a_stored_key_is_preferred_the_days_of_both_are_to_be_made_again(lake):
    increment(lake, staged(("a", "u1", "p"), ("b", "u1", "p"), day=DAYS[1]))
    increment(lake, staged(("a", "u2", "p")))
    assert published(lake)[0] == ("a", "u1", date(2026, 11, 10))
    assert stale_days(lake, TABLE, []) == DAYS
    written(lake).publish(as_they_are, pl.concat([staged(("a", "u2", "p")), staged(("a", "u1", "p"), day=DAYS[1])]))
    assert published(lake) == [("a", "u2", date(2026, 11, 9))]


def test_an_increments_row_on_which_the_stage_raises_is_quarantined_and_stops_no_other(lake):
    assert increment(lake, BOTH, raising_on({"u2"}))["sync_id"].to_list() == ["a"]
    assert ("silver/user_sync", "raised:TypeError", "user_sync/2026-11-10.jsonl", 1) in rejected(lake)


def test_an_increment_of_nothing_new_stops_no_stream_where_keys_hold_within_a_day(lake):
    table, at = "silver/page_signals", pl.lit(NOW)
    rows = staged(("a", "u1", "p")).rename({"sync_id": "url"}).with_columns(fetched_at=at)
    known = KeyIndex(lake, table)
    assert publish_increment(lake, table, as_they_are, rows.clear(), known).is_empty()
    assert publish_increment(lake, table, as_they_are, rows, known).height == 1
    again = rows.with_columns(source=pl.lit("kafka:pages:0"))
    assert publish_increment(lake, table, as_they_are, again, known).is_empty()
    assert lake.read(QUARANTINE)["rule"].to_list() == ["duplicate_key"]
    assert publish_increment(lake, table, as_they_are, rows, known).height == 1


def test_an_increment_that_loses_rows_writes_nothing(lake):
    with pytest.raises(RowsLostError):
        increment(lake, BOTH, lambda rows: rows.head(4))
    assert not lake.exists(TABLE)
    assert increment(lake, BOTH, lambda rows: rows.head(4), several=True).height == 2


@pytest.mark.parametrize("counts", [(0, 0, 0), (3, 3, 0), (3, 1, 2)])
def test_account_passes_where_counts_add_up(counts):
    reconcile("t", *counts)


@pytest.mark.parametrize("counts", [(3, 2, 0), (2, 2, 1), (0, 1, 0), (0, 0, 1)])
def test_account_raises_where_they_do_not(counts):
    with pytest.raises(RowsLostError, match=f"t: {counts[0]} rows in, but {counts[1]} out and {counts[2]} quarantined"):
        reconcile("t", *counts)


def broken(**columns):
    return to_broken_rows(staged(("a", "u", "p")).with_columns(**{"rule": pl.lit("r")} | columns))


def test_quarantined_rows_keep_what_says_what_is_wrong_and_leave_out_what_is_heavy():
    found = quarantine_rows(
        TABLE, broken(body=pl.lit(b"0" * 100), vector=pl.lit([1.0]), note=pl.lit("n" * 2 * MAX_ROW_CHARACTERS))
    )
    assert set(found.columns) == {"quarantine_id", "table", "rule", "row", "source", "position", "received_at", DAY}
    row = found["row"].item()
    assert row.startswith('{"sync_id":"a","user_id":"u","partner":"p","tenant_id":"acme","consent":true,"note":"nnn')
    assert len(row) == MAX_ROW_CHARACTERS


def test_a_quarantined_row_has_the_same_name_whenever_it_is_found_and_no_other_has_it():
    name = quarantine_rows(TABLE, broken())["quarantine_id"].item()
    later = broken(received_at=pl.lit(NOW + timedelta(days=3)))
    assert quarantine_rows(TABLE, later)["quarantine_id"].item() == name
    others = [
        quarantine_rows("silver/other", broken()),
        *(
            quarantine_rows(TABLE, broken(**change))
            for change in (
                {"rule": pl.lit("s")},
                {"source": pl.lit("x")},
                {"position": pl.lit(9)},
                {"user_id": pl.lit("v")},
            )
        ),
    ]
    assert len({name, *(other["quarantine_id"].item() for other in others)}) == 6


def test_identical_rows_of_one_place_have_different_names_and_the_same_ones_each_time():
    rows = pl.concat([broken()] * 3)
    names = quarantine_rows(TABLE, rows)["quarantine_id"]
    assert names.n_unique() == 3
    assert quarantine_rows(TABLE, rows)["quarantine_id"].to_list() == names.to_list()
    assert quarantine_rows(TABLE, broken())["quarantine_id"].item() == names[0]


def test_a_name_is_made_of_the_whole_row_though_not_all_of_it_is_kept():
    long = "n" * MAX_ROW_CHARACTERS
    rows = pl.concat([broken(note=pl.lit(long + end)) for end in "ab"])
    assert quarantine_rows(TABLE, rows)["quarantine_id"].n_unique() == 2
    apart = [quarantine_rows(TABLE, rows[[at]])["quarantine_id"].item() for at in (0, 1)]
    assert quarantine_rows(TABLE, rows)["quarantine_id"].to_list() == apart


def test_nothing_broken_is_nothing_quarantined():
    assert quarantine_rows(TABLE, broken().clear()).is_empty()


@settings(max_examples=50)
@given(st.integers(0, 100), st.dictionaries(st.sampled_from("abc"), st.integers(1, 40)))
def test_checks_pass_while_rows_add_up_and_few_are_quarantined(rows_out, counts):
    lost = sum(counts.values())
    accounted, rules = write_checks(catalog.table(TABLE), rows_out + lost, rows_out, counts)
    assert accounted.passed
    assert rules.passed == (lost <= 0.05 * (rows_out + lost))
    assert not write_checks(catalog.table(TABLE), rows_out + lost + 1, rows_out, counts)[0].passed
