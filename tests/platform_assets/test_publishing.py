import time
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from governance.quality import suite
from platform_assets.publishing import MAX_ROW, QUARANTINE, Hop, RowsLostError, account, checks, quarantined
from resources.lakehouse import DAY, Lakehouse

TABLE = "silver/user_sync"
NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
DAYS = ["2026-11-09", "2026-11-10"]
SCHEMA = {
    "sync_id": pl.String,
    "user_id": pl.String,
    "partner": pl.String,
    "source": pl.String,
    "position": pl.Int64,
    "received_at": pl.Datetime("us", "UTC"),
    DAY: pl.Date,
}


def staged(*rows, day=DAYS[0]):
    """Return staged rows of (sync_id, user_id, partner), in their places in a file of that day."""
    return pl.DataFrame(
        [(*row, f"user_sync/{day}.jsonl", place, NOW, date.fromisoformat(day)) for place, row in enumerate(rows, 1)],
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


def hop(lake, days=DAYS, marks=None):
    return Hop(lake, TABLE, days, time.perf_counter(), marks or {}, (None, None))


def published(lake):
    return lake.read(TABLE).sort("sync_id").select("sync_id", "user_id", DAY).rows()


def rejected(lake):
    return lake.read(QUARANTINE).sort("rule", "position").select("table", "rule", "source", "position").rows()


def test_every_row_is_published_or_quarantined_with_its_rule(lake):
    result = hop(lake).publish(BOTH, rows_in=5)
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
    hop(lake).publish(BOTH, rows_in=5)
    before = lake.read(TABLE).sort("sync_id"), lake.read(QUARANTINE).sort("quarantine_id")
    hop(lake).publish(BOTH, rows_in=5)
    assert_frame_equal(lake.read(TABLE).sort("sync_id"), before[0])
    assert_frame_equal(lake.read(QUARANTINE).sort("quarantine_id"), before[1])


def test_publishing_replaces_its_days_and_no_others(lake):
    hop(lake).publish(BOTH, rows_in=5)
    hop(lake, DAYS[:1]).publish(staged(("x", "u9", "p")), rows_in=1)
    assert published(lake) == [("c", "u2", date(2026, 11, 10)), ("x", "u9", date(2026, 11, 9))]
    assert [row[1] for row in rejected(lake)] == ["partner_given"]


def test_a_quarantine_of_another_table_stays(lake):
    other = staged(("z", "u", "p")).with_columns(rule=pl.lit("not_json"))
    lake.insert_missing(QUARANTINE, quarantined("bronze/user_sync", other), ["quarantine_id"])
    hop(lake).publish(BOTH, rows_in=5)
    assert [row[:2] for row in rejected(lake)].count(("bronze/user_sync", "not_json")) == 1
    assert len(rejected(lake)) == 4


def test_a_deleted_day_comes_back_when_it_is_published_again(lake):
    hop(lake).publish(BOTH, rows_in=5)
    before = published(lake)
    lake.open(TABLE).delete(f"{DAY} = '{DAYS[0]}'")
    assert published(lake) == before[1:]
    hop(lake, DAYS[:1]).publish(BOTH.filter(pl.col(DAY) == date(2026, 11, 9)), rows_in=3)
    assert published(lake) == before


def test_days_without_rows_are_emptied(lake):
    hop(lake).publish(BOTH, rows_in=5)
    hop(lake, DAYS[1:]).publish(staged(), rows_in=0)
    assert published(lake) == [("a", "u1", date(2026, 11, 9))]
    assert [row[1] for row in rejected(lake)] == ["duplicate_key", "user_given"]


def test_rows_that_broke_a_rule_before_are_quarantined_with_the_others(lake):
    earlier = staged(("e", "u", "p"), day=DAYS[1]).select("sync_id", "source", "position", "received_at", DAY)
    result = hop(lake).publish(BOTH, rows_in=6, broken=earlier.with_columns(rule=pl.lit("undecodable")))
    assert result.metadata["rules_broken"]["undecodable"] == 1
    assert (TABLE, "undecodable", "user_sync/2026-11-10.jsonl", 1) in rejected(lake)


@pytest.mark.parametrize("rows_in", [4, 6])
def test_nothing_is_written_when_rows_are_lost_or_doubled(lake, rows_in):
    with pytest.raises(RowsLostError, match=f"{TABLE}: {rows_in} rows in, but 2 out and 3 quarantined"):
        hop(lake).publish(BOTH, rows_in=rows_in)
    assert not lake.exists(TABLE)
    assert not lake.exists(QUARANTINE)


def test_the_state_of_the_inputs_is_kept_with_the_rows(lake):
    hop(lake, marks={"inputs:2026-11-09": 7}).publish(BOTH, rows_in=5)
    assert lake.position(TABLE, "inputs:2026-11-09") == 7


@pytest.mark.parametrize("counts", [(0, 0, 0), (3, 3, 0), (3, 1, 2)])
def test_account_passes_where_counts_add_up(counts):
    account("t", *counts)


@pytest.mark.parametrize("counts", [(3, 2, 0), (2, 2, 1), (0, 1, 0), (0, 0, 1)])
def test_account_raises_where_they_do_not(counts):
    with pytest.raises(RowsLostError, match=f"t: {counts[0]} rows in, but {counts[1]} out and {counts[2]} quarantined"):
        account("t", *counts)


def broken(**columns):
    return staged(("a", "u", "p")).with_columns(rule=pl.lit("r"), **columns)


def test_quarantined_rows_keep_what_says_what_is_wrong_and_leave_out_what_is_heavy():
    found = quarantined(TABLE, broken(body=pl.lit(b"0" * 100), vector=pl.lit([1.0]), note=pl.lit("n" * 2 * MAX_ROW)))
    assert set(found.columns) == {"quarantine_id", "table", "rule", "row", "source", "position", "received_at", DAY}
    row = found["row"].item()
    assert row.startswith('{"sync_id":"a","user_id":"u","partner":"p","note":"nnn')
    assert len(row) == MAX_ROW


def test_a_quarantined_row_has_the_same_name_whenever_it_is_found_and_no_other_has_it():
    name = quarantined(TABLE, broken())["quarantine_id"].item()
    later = broken(received_at=pl.lit(NOW + timedelta(days=3)))
    assert quarantined(TABLE, later)["quarantine_id"].item() == name
    others = [
        quarantined("silver/other", broken()),
        *(
            quarantined(TABLE, broken().with_columns(**change))
            for change in (
                {"rule": pl.lit("s")},
                {"source": pl.lit("x")},
                {"position": pl.lit(9)},
                {"user_id": pl.lit("v")},
            )
        ),
    ]
    assert len({name, *(other["quarantine_id"].item() for other in others)}) == 6


def test_nothing_broken_is_nothing_quarantined():
    assert quarantined(TABLE, broken().clear()).is_empty()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 100), st.dictionaries(st.sampled_from("abc"), st.integers(1, 40)))
def test_checks_pass_while_rows_add_up_and_few_are_quarantined(rows_out, counts):
    lost = sum(counts.values())
    accounted, rules = checks(suite(TABLE), rows_out + lost, rows_out, counts)
    assert accounted.passed
    assert rules.passed == (lost <= 0.05 * (rows_out + lost))
    assert not checks(suite(TABLE), rows_out + lost + 1, rows_out, counts)[0].passed
