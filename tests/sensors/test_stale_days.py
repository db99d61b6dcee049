from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.silver.ad_events import ad_events
from platform_assets.silver.page_signals import page_signals
from platform_assets.silver.quarantine import quarantine
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import input_fingerprints
from resources.lakehouse.tables import Lakehouse
from sensors.stale_days import GAP, RANGE_BYTES, RunPlan, daily_inputs, decide, sizes, stale

FIRST = date(2026, 1, 1)
INPUTS = {"silver/a": ("bronze/a",), "silver/b": ("bronze/b",), "silver/ab": ("silver/a", "silver/b")}
OFFSETS = st.dictionaries(st.sampled_from(sorted(INPUTS)), st.lists(st.integers(0, 400), max_size=8))


def day(offset):
    return (FIRST + timedelta(days=offset)).isoformat()


@pytest.mark.parametrize(
    ("stale_days", "work"),
    [
        ({}, []),
        ({"silver/a": []}, []),
        ({"silver/other": ["2026-11-10"]}, []),
        ({"silver/ab": ["2026-11-10"]}, [RunPlan("2026-11-10", "2026-11-10", ("silver/ab",))]),
        ({"silver/a": ["2026-11-12", "2026-11-10"]}, [RunPlan("2026-11-10", "2026-11-12", ("silver/a", "silver/ab"))]),
        (
            {"silver/a": ["2026-11-10"], "silver/b": ["2026-11-10", "2026-11-11"]},
            [RunPlan("2026-11-10", "2026-11-11", ("silver/a", "silver/ab", "silver/b"))],
        ),
        ({"silver/ab": ["2026-01-01", "2026-02-01"]}, [RunPlan("2026-01-01", "2026-02-01", ("silver/ab",))]),
        (
            {"silver/ab": ["2026-01-01", "2026-02-02"]},
            [RunPlan("2026-01-01", "2026-01-01", ("silver/ab",)), RunPlan("2026-02-02", "2026-02-02", ("silver/ab",))],
        ),
        (
            {"silver/a": ["2020-05-03"], "silver/b": ["2026-11-10"], "silver/ab": ["2026-11-12", "2020-05-01"]},
            [
                RunPlan("2020-05-01", "2020-05-03", ("silver/a", "silver/ab")),
                RunPlan("2026-11-10", "2026-11-12", ("silver/ab", "silver/b")),
            ],
        ),
    ],
)
def test_runs_make_the_stale_tables_and_what_is_made_from_them_oldest_days_first(stale_days, work):
    assert decide(stale_days, INPUTS, {}) == work


def test_what_is_made_from_a_stale_table_is_made_too_however_far_away():
    chain = {"silver/b": ("silver/a",), "silver/c": ("silver/b",), "silver/d": ("silver/c",), "silver/x": ("silver/y",)}
    (work,) = decide({"silver/b": ["2026-11-10"]}, chain, {})
    assert work.tables == ("silver/b", "silver/c", "silver/d")


@settings(max_examples=60)
@given(OFFSETS)
def test_every_stale_day_is_covered_once_and_every_range_begins_and_ends_with_one(offsets):
    stale_days = {table: [day(offset) for offset in of] for table, of in offsets.items()}
    work = decide(stale_days, INPUTS, {})
    for table, days in stale_days.items():
        for one in days:
            (covering,) = [run for run in work if run.first <= one <= run.last]
            assert table in covering.tables
    assert {end for run in work for end in (run.first, run.last)} <= {
        one for days in stale_days.values() for one in days
    }
    gaps = [date.fromisoformat(b.first) - date.fromisoformat(a.last) for a, b in pairwise(work)]
    assert all(gap > GAP for gap in gaps)


def test_a_run_reads_no_more_than_fits_in_memory_and_no_large_day_that_is_not_stale():
    stale_days, half = {"silver/a": [day(0), day(1), day(2), day(5)]}, RANGE_BYTES // 2
    ranges = [(run.first, run.last) for run in decide(stale_days, INPUTS, {day(n): half for n in range(3)})]
    assert ranges == [(day(0), day(1)), (day(2), day(5))]
    ranges = [(run.first, run.last) for run in decide(stale_days, INPUTS, {day(4): RANGE_BYTES + 1})]
    assert ranges == [(day(0), day(2)), (day(5), day(5))]
    (alone,) = decide({"silver/a": [day(0)]}, INPUTS, {day(0): 9 * RANGE_BYTES})
    assert (alone.first, alone.last) == (day(0), day(0))


def test_the_bytes_of_a_day_are_those_of_all_inputs(tmp_path):
    lake = Lakehouse(uri=str(tmp_path))
    for name in ("bronze/a", "silver/a"):
        lake.insert_missing(name, pl.DataFrame({"id": [1, 2], DAY: [FIRST, FIRST + timedelta(1)]}), ["id"])
    found = sizes(lake, {**INPUTS, "silver/x": ("bronze/missing",)})
    paths = [path for name in ("bronze/a", "silver/a") for path in (tmp_path / name).glob(f"{DAY}={day(0)}/*")]
    assert found == {day(0): sum(path.stat().st_size for path in paths), day(1): found[day(1)]}


def test_inputs_are_those_that_assets_declare_a_day_from():
    assert daily_inputs([ad_events, page_signals, quarantine]) == {
        "silver/ad_events": ("bronze/ad_events",),
        "silver/page_signals": ("silver/pages", "silver/images", "silver/decisions"),
    }


def test_days_are_stale_until_they_are_made_from_their_inputs_as_they_are(tmp_path):
    lake, today = Lakehouse(uri=str(tmp_path)), FIRST + timedelta(days=9)
    made, source = "silver/labels", "bronze/review_labels"
    inputs = {made: (source,)}

    def land(name, offset):
        lake.insert_missing(source, pl.DataFrame({"id": [name], DAY: [FIRST + timedelta(offset)]}), ["id"])

    def make(*offsets):
        days = [day(offset) for offset in offsets]
        lake.replace_days(
            made, days, lake.read(source, days), checkpoints=input_fingerprints(lake, made, [source], days)
        )

    assert stale(lake, inputs, today) == {made: [day(9)]}
    land("one", 0)
    land("two", 1)
    assert stale(lake, inputs, today) == {made: [day(0), day(1)]}
    make(0)
    assert stale(lake, inputs, today) == {made: [day(1)]}
    make(0, 1)
    assert stale(lake, inputs, today) == {}
    land("late", 0)
    assert stale(lake, inputs, today) == {made: [day(0)]}


def test_a_table_that_does_not_exist_comes_to_be_with_the_first_days_of_any(tmp_path):
    lake, today = Lakehouse(uri=str(tmp_path)), FIRST + timedelta(days=99)
    inputs = {"silver/pages": ("bronze/a",), "silver/labels": ("bronze/b",), "silver/messages": ("bronze/c",)}
    lake.insert_missing("bronze/a", pl.DataFrame({"id": [1], DAY: [FIRST]}), ["id"])
    lake.insert_missing("bronze/b", pl.DataFrame({"id": [1], DAY: [FIRST + timedelta(days=60)]}), ["id"])
    first = decide(stale(lake, inputs, today), inputs, {})[0]
    assert (first.first, first.tables) == (day(0), ("silver/labels", "silver/messages", "silver/pages"))
