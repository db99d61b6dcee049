from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.lakehouse.checkpoints import LEDGER
from resources.lakehouse.tables import Lakehouse
from resources.landing.ledger import TABLE, Ledger, Progress, compact

BRONZE, OTHER = "bronze/messages", "bronze/pages"
NOW = datetime(2026, 11, 9, 12, tzinfo=UTC)
ROWS = pl.DataFrame({"id": ["a"]})


def progress(position, *, later=0):
    return Progress(position, position * 7, position * 3, position % 2 == 0, NOW + timedelta(minutes=later))


def commit(lake, before, number, table=BRONZE):
    lake.append_once(table, ROWS, {LEDGER: before}, {LEDGER: number})


def read(lake, ledger, readings, table=BRONZE):
    before, number = ledger.plan(readings)
    commit(lake, before, number, table)
    ledger.settle(readings, number)


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path))


def test_a_reading_counts_once_its_rows_are_there(lake):
    ledger = Ledger(lake, BRONZE)
    assert (ledger.files, ledger.commit) == ({}, None)
    before, number = ledger.plan({"a": progress(1)})
    assert Ledger(lake, BRONZE).files == {}
    commit(lake, before, number)
    assert Ledger(lake, BRONZE).files == {"a": progress(1)}


def test_the_newest_reading_of_each_file_counts_and_tables_are_apart(lake):
    mine, other = Ledger(lake, BRONZE), Ledger(lake, OTHER)
    read(lake, mine, {"a": progress(1), "b": progress(2)})
    read(lake, other, {"a": progress(9)}, OTHER)
    read(lake, mine, {"a": progress(3)})
    assert mine.files == Ledger(lake, BRONZE).files == {"a": progress(3), "b": progress(2)}
    assert Ledger(lake, OTHER).files == {"a": progress(9)}


def test_of_two_that_read_at_once_one_appends(lake):
    first, second = Ledger(lake, BRONZE), Ledger(lake, BRONZE)
    plans = [first.plan({"a": progress(1)}), second.plan({"a": progress(5)})]
    commit(lake, *plans[1])
    with pytest.raises(CommitFailedError, match="another writer"):
        commit(lake, *plans[0])
    assert Ledger(lake, BRONZE).files == {"a": progress(5)}


def test_a_table_that_is_gone_has_nothing_read(lake, tmp_path):
    read(lake, Ledger(lake, BRONZE), {"a": progress(1)})
    (tmp_path / BRONZE).rename(tmp_path / "gone")
    assert Ledger(lake, BRONZE).files == {}


def test_a_compacted_ledger_has_a_row_of_each_file_and_none_of_what_can_no_longer_count(lake):
    ledger = Ledger(lake, BRONZE)
    ledger.plan({"never": progress(8)})
    for position in range(4):
        read(lake, ledger, {"a": progress(position), f"b{position}": progress(position)})
    read(lake, Ledger(lake, OTHER), {"a": progress(9)}, OTHER)
    version = compact(lake, [BRONZE, OTHER])
    assert lake.count(TABLE) == 6
    assert Ledger(lake, BRONZE).files == ledger.files
    assert compact(lake, [BRONZE, OTHER]) == version
    read(lake, Ledger(lake, BRONZE), {"a": progress(7)})
    assert Ledger(lake, BRONZE).files == ledger.files | {"a": progress(7)}


def test_however_many_files_are_read_the_log_keeps_one_number(lake):
    ledger = Ledger(lake, BRONZE)
    for number in range(12):
        read(lake, ledger, {f"{number}-{file}": progress(number) for file in range(3)})
    lake.open(BRONZE).create_checkpoint()
    assert lake.checkpoints(BRONZE) == {LEDGER: ledger.commit}


def test_an_empty_ledger_is_compacted(lake):
    compact(lake, [BRONZE])
    assert lake.count(TABLE) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("plan"), st.integers(0, 1), st.sampled_from("abc"), st.integers(0, 9)),
        st.tuples(st.just("commit"), st.integers(0, 1)),
        st.tuples(st.just("restart"), st.integers(0, 1)),
        st.just(("compact",)),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(STEPS)
def test_whatever_two_readers_do_and_whenever_it_is_compacted_what_was_committed_counts(tmp_path_factory, steps):
    lake = Lakehouse(uri=str(tmp_path_factory.mktemp("lake")))
    readers = [Ledger(lake, BRONZE) for _ in range(2)]
    planned, files = [None, None], {}
    for step, *rest in steps:
        if step == "compact":
            compact(lake, [BRONZE])
        elif step == "plan":
            reader, file, position = rest
            readings = {file: progress(position)}
            planned[reader] = (readings, readers[reader].plan(readings))
        elif step == "restart":
            readers[rest[0]], planned[rest[0]] = Ledger(lake, BRONZE), None
        elif planned[rest[0]]:
            readings, plan = planned[rest[0]]
            planned[rest[0]] = None
            try:
                commit(lake, *plan)
            except CommitFailedError:
                continue
            readers[rest[0]].settle(readings, plan[1])
            files |= readings
        assert Ledger(lake, BRONZE).files == files
