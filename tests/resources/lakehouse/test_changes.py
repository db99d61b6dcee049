import time
from datetime import UTC, datetime

import polars as pl
import pytest

from resources.lakehouse.changes import days_written, rows_between, rows_changed, rows_of_new_files
from resources.lakehouse.reading import VersionGoneError
from resources.lakehouse.tables import CHECKPOINT
from tests.support.delta import MON, PAGES, TUE, frame


def test_rows_of_a_version_are_found_where_days_have_been_written_again(lake):
    def between(before, after):
        return sorted(rows_between(lake, PAGES, before, after, key=["id"], columns=["value"])["id"])

    first = lake.replace_days(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 1, TUE)))
    second = lake.replace_days(PAGES, [TUE], frame(("b", 1, TUE), ("c", 1, TUE)))
    assert between(None, first) == ["a", "b"]
    assert between(first, second) == ["c"]
    assert between(second, second) == []
    moved = lake.replace_days(PAGES, [MON, TUE], frame(("a", 1, TUE), ("d", 1, TUE)))
    assert between(second, moved) == ["d"], "a row that came to another day is no new one"
    lake.open(PAGES).alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    for number in range(int(CHECKPOINT)):
        second = lake.save_checkpoints(PAGES, {"read": number})
    with pytest.raises(VersionGoneError, match=f"{PAGES}: version {first} is no longer kept"):
        between(first, second)


def test_what_rows_have_now_and_had_not_or_had_is_told_of_days_that_have_changed(lake):
    def changed(before, *columns):
        return sorted(rows_changed(lake, PAGES, before, columns).rows(), key=str)

    first = lake.replace_days(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 1, MON), ("c", 1, TUE), ("c", 1, TUE)))
    assert changed(None, "id") == [("a",), ("b",), ("c",)]
    assert changed(first, "id") == []
    second = lake.replace_days(PAGES, [MON], frame(("a", 2, MON), ("d", 1, MON)))
    assert changed(first, "id") == [("b",), ("d",)]
    assert changed(first, "id", "value") == [("a", 1), ("a", 2), ("b", 1), ("d", 1)]
    assert changed(second, "id", "value") == []
    lake.replace_days(PAGES, [MON], frame(("d", 1, MON), ("a", 2, MON)))
    assert changed(second, "id", "value") == [], "written again as they were"
    lake.open(PAGES).delete(f"event_date = '{TUE}'")
    assert changed(second, "id") == [("c",)]


def test_a_column_that_a_version_had_not_yet_is_null_there_and_a_version_that_is_gone_tells_all(lake):
    first = lake.replace_days(PAGES, [MON], frame(("a", 1, MON)))
    lake.insert_missing(PAGES, frame(("b", 1, MON)).with_columns(more=pl.lit("x")), ["id"])
    assert rows_changed(lake, PAGES, first, ["id", "more"]).rows() == [("b", "x")]
    lake.replace_days(PAGES, [TUE], frame(("c", 1, TUE)))
    lake.open(PAGES).alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    for number in range(int(CHECKPOINT)):
        lake.save_checkpoints(PAGES, {"read": number})
    assert sorted(rows_changed(lake, PAGES, first, ["id"])["id"]) == ["a", "b", "c"]


def test_rows_of_files_that_are_not_known_yet_are_read_and_all_files_named(lake):
    lake.insert_missing(PAGES, frame(("a", 1, MON), ("b", 1, TUE)), ["id"])
    rows, files = rows_of_new_files(lake, PAGES, (), ["id", "value"])
    assert sorted(rows.rows()) == [("a", 1), ("b", 1)]
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        rows_of_new_files(lake, PAGES, (), ["id", "event_date"])
    assert rows_of_new_files(lake, PAGES, files, ["id"])[0].schema == pl.Schema({"id": pl.String})
    lake.insert_missing(PAGES, frame(("c", 1, MON)).with_columns(more=pl.lit("x")), ["id"])
    rows, after = rows_of_new_files(lake, PAGES, files, ["id", "more"])
    assert (rows.rows(), after > files) == ([("c", "x")], True)
    assert sorted(rows_of_new_files(lake, PAGES, (), ["id", "more"])[0].rows()) == [
        ("a", None),
        ("b", None),
        ("c", "x"),
    ]
    lake.replace_days(PAGES, [MON], frame(("d", 1, MON)))
    rows, last = rows_of_new_files(lake, PAGES, after, ["id"])
    assert (rows["id"].to_list(), bool(after - last)) == (["d"], True)


def test_days_that_were_written_since_a_moment_are_listed(lake):
    assert lake.replace_days(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 1, TUE))) == 1
    time.sleep(0.01)
    since = datetime.now(UTC)
    assert days_written(lake, PAGES, since) == []
    lake.insert_missing(PAGES, frame(("c", 1, TUE)), ["id"])
    assert days_written(lake, PAGES, since) == [TUE]
