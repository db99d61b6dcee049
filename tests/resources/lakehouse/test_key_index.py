import gc
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.lakehouse import key_index
from resources.lakehouse.days import DAY
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from tests.support.delta import lose

TABLE = "silver/user_sync"
SCHEMA = {"tenant_id": pl.String, "sync_id": pl.String, "source": pl.String, "position": pl.Int64, DAY: pl.Date}
MON, TUE = date(2026, 11, 9), date(2026, 11, 10)


def rows(*named, day=MON, source="f"):
    """Return rows of (tenant, id), numbered."""
    found = [(tenant, name, source, number, day) for number, (tenant, name) in enumerate(named)]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path))


def stored(known, *named):
    found, _ = known.stored(rows(*named), ["source", DAY])
    return sorted(found.rows(), key=str)


def test_of_a_table_that_does_not_exist_nothing_is_stored(lake):
    found, version = KeyIndex(lake, TABLE).stored(rows(("a", "1")), ["position", DAY])
    assert (found.height, version) == (0, None)
    assert found.columns == ["tenant_id", "sync_id", "position", DAY]


def test_rows_of_a_key_are_found_whatever_their_day_and_null_is_a_key(lake):
    lake.insert_missing(TABLE, pl.concat([rows(("a", "1"), (None, "1")), rows(("b", "1"), day=TUE)]), ["tenant_id"])
    known = KeyIndex(lake, TABLE)
    assert stored(known, ("b", "1"), (None, "1"), ("a", "2"), ("c", "1")) == [
        ("b", "1", "f", TUE),
        (None, "1", "f", MON),
    ]
    assert known.stored(rows(("a", "1")), [])[1] == lake.version(TABLE)


def test_what_this_worker_and_others_add_is_known_without_reading_the_rest_again(lake, monkeypatch):
    known, read = KeyIndex(lake, TABLE), []
    hashed = key_index._hashed
    for number in range(3):
        lake.insert_missing(TABLE, rows(("a", str(number)), source=str(number)), ["tenant_id", "sync_id"])
        assert stored(known, ("a", str(number)), ("a", "9")) == [("a", str(number), str(number), MON)]
    monkeypatch.setattr(key_index, "_hashed", lambda some, key: read.append(some.height) or hashed(some, key))
    lake.insert_missing(TABLE, rows(("b", "1")), ["tenant_id", "sync_id"])
    stored(known, ("a", "1"))
    stored(known, ("a", "1"))
    assert read == [1, 1, 1], "the new file's row once, and what was asked for"


def test_a_key_that_is_gone_is_not_found(lake):
    lake.replace_days(TABLE, [str(MON)], rows(("a", "1"), ("a", "2")))
    known = KeyIndex(lake, TABLE)
    assert len(stored(known, ("a", "1"), ("a", "2"))) == 2
    lake.replace_days(TABLE, [str(MON)], rows(("a", "2")))
    assert stored(known, ("a", "1"), ("a", "2")) == [("a", "2", "f", MON)]


def test_a_key_that_holds_within_a_day_is_looked_for_on_that_day_only(lake):
    table = "silver/message_signals"
    of_days = pl.concat([rows(("a", "1")), rows(("a", "1"), day=TUE)]).rename({"sync_id": "message_id"})
    lake.replace_days(table, [str(MON), str(TUE)], of_days)
    found, _ = KeyIndex(lake, table).stored(of_days.filter(pl.col(DAY) == TUE), [DAY])
    assert found.rows() == [("a", "1", TUE)]


def test_keys_that_share_a_hash_are_told_apart(lake, monkeypatch):
    monkeypatch.setattr(
        key_index, "_hashed", lambda some, _: pl.repeat(7, some.height, dtype=pl.UInt64, eager=True).to_numpy()
    )
    lake.insert_missing(TABLE, rows(("a", "1")), ["tenant_id"])
    assert stored(KeyIndex(lake, TABLE), ("a", "1"), ("b", "2")) == [("a", "1", "f", MON)]


def test_what_one_process_has_read_another_does_not_read_again_and_other_days_are_not_opened(lake):
    key = ["tenant_id", "sync_id"]
    lake.insert_missing(TABLE, pl.concat([rows(("a", "1")), rows(("b", "1"), day=TUE)]), key)
    KeyIndex(lake, TABLE).refresh()
    gc.collect()
    lose(lake, TABLE, str(MON))
    known = KeyIndex(lake, TABLE)
    assert stored(known, ("b", "1"), ("c", "1")) == [("b", "1", "f", TUE)]
    assert known.has(rows(("a", "1"), ("b", "1"), ("c", "1"))).tolist() == [True, True, False]
    assert known.scan(rows(("b", "1"))).collect()["sync_id"].to_list() == ["1"]
    with pytest.raises(FileNotFoundError):
        stored(known, ("a", "1"))


def test_a_table_that_is_made_anew_has_another_index(lake, tmp_path):
    lake.insert_missing(TABLE, rows(("a", "1")), ["tenant_id"])
    assert KeyIndex(lake, TABLE).refresh() == 1
    shutil.rmtree(tmp_path / TABLE)
    assert KeyIndex(lake, TABLE).refresh() is None
    lake.insert_missing(TABLE, rows(("b", "1")), ["tenant_id"])
    assert stored(KeyIndex(lake, TABLE), ("a", "1"), ("b", "1")) == [("b", "1", "f", MON)]


def test_columns_other_than_the_key_are_indexed_by_themselves_and_may_be_on_several_days(lake):
    every = pl.concat([rows(("a", "1")), rows(("b", "1"), day=TUE)])
    lake.insert_missing(TABLE, every, ["tenant_id"])
    by_name = KeyIndex(lake, TABLE, ["sync_id"])
    assert by_name.scan(pl.DataFrame({"sync_id": ["1", "2"]})).collect().height == 2
    assert by_name.days(pl.DataFrame({"sync_id": ["1"]})) == [str(MON), str(TUE)]
    assert by_name.days(pl.DataFrame({"sync_id": ["2"]})) == []


def test_of_two_that_index_at_once_both_find_all(lake):
    lake.insert_missing(TABLE, rows(("a", "0")), ["tenant_id", "sync_id"])

    def follow(number):
        known = KeyIndex(lake, TABLE)
        for step in range(8):
            name = f"{number}-{step}"
            lake.insert_missing(TABLE, rows(("a", name)), ["tenant_id", "sync_id"])
            assert known.stored(rows(("a", name)), [])[0].height == 1

    with ThreadPoolExecutor() as threads:
        list(threads.map(follow, range(3)))
    assert KeyIndex(lake, TABLE).refresh() == lake.version(TABLE)


@settings(max_examples=10)
@given(st.lists(st.lists(st.integers(0, 40), max_size=6), min_size=1, max_size=20))
@pytest.mark.slow
def test_whatever_was_added_in_whatever_order_is_what_is_found(tmp_path_factory, steps):
    lake = Lakehouse(uri=str(tmp_path_factory.mktemp("lake")))
    known, key = KeyIndex(lake, TABLE), ["tenant_id", "sync_id"]
    every = rows(*(("a", str(number)) for number in range(41)))
    held = set()
    for numbers in steps:
        lake.insert_missing(TABLE, rows(*(("a", str(number)) for number in numbers)), key)
        held |= set(map(str, numbers))
        found, _ = known.stored(every, [])
        assert sorted(found["sync_id"]) == sorted(held)
