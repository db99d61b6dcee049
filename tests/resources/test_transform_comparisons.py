from datetime import UTC, datetime, timedelta

import pytest

from governance import catalog
from governance.gates.promotion import Figure, Verdict
from governance.transform_comparisons import Comparisons
from resources.lakehouse.tables import Lakehouse
from resources.transform_comparisons import KEY, TABLE, ensure_table, record, recorded_comparisons

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
PASSED = Verdict(passed=True, why="alike", figures=(Figure("task", "irony", "same labels", 500, 0.998),))
FAILED = Verdict(passed=False, why="irony gives 80.0% of its texts the same label, not 99%")


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path / "lake"))


def test_what_was_recorded_twice_is_there_once(lake):
    for pair in (("b", "a"), ("a", "b")):
        record(lake, pair, PASSED, NOW)
    before = lake.version(TABLE)
    record(lake, ("a", "b"), PASSED, LATER)
    assert lake.version(TABLE) == before
    assert lake.read(TABLE).rows() == [("a", "b", True, PASSED.dump(), NOW)]
    assert recorded_comparisons(lake) == Comparisons({("a", "b"): PASSED})


def test_another_verdict_takes_the_place_of_the_first_and_leaves_other_pairs(lake):
    record(lake, ("a", "b"), PASSED, NOW)
    record(lake, ("c", "a"), PASSED, NOW)
    record(lake, ("a", "b"), FAILED, LATER)
    record(lake, ("b", "a"), FAILED, LATER)
    assert lake.read(TABLE).select(*KEY, "passed", "compared_at").rows() == [
        ("a", "b", False, LATER),
        ("a", "c", True, NOW),
    ]
    known = recorded_comparisons(lake)
    assert (known.may_score("irony", "b", "a"), known.may_score("irony", "c", "a")) == (False, True)


def test_without_a_table_nothing_is_recorded(lake):
    assert recorded_comparisons(lake) == Comparisons()
    for _ in range(2):
        ensure_table(lake)
        assert (lake.version(TABLE), lake.count(TABLE)) == (0, 0)
    assert recorded_comparisons(lake) == Comparisons()
    record(lake, ("a", "b"), PASSED, NOW)
    ensure_table(lake)
    assert lake.count(TABLE) == 1


def test_the_table_is_as_the_catalog_says(lake):
    ensure_table(lake)
    known = catalog.table(TABLE)
    assert (known.key, set(lake.columns(TABLE))) == (KEY, {*known.classes})
