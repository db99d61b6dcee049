from datetime import date
from pathlib import Path

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError, DeltaError
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.lakehouse import retries
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import CHECKPOINT, PLACE, Lakehouse, ReadRows, lakehouse
from resources.settings import load_settings
from tests.support.delta import DAYS, MON, PAGES, THU, TUE, WED, Row, frame, lose, stored


def test_days_that_are_replaced_leave_the_other_days_alone(lake):
    lake.replace_days(PAGES, [MON, TUE, WED], frame(("a", 1, MON), ("b", 1, TUE), ("c", 1, WED)))
    lake.replace_days(PAGES, [TUE], frame(("d", 2, TUE), ("e", 2, TUE)))
    assert stored(lake) == [("a", 1, MON), ("c", 1, WED), ("d", 2, TUE), ("e", 2, TUE)]


def test_a_table_of_many_commits_opens_from_a_checkpoint_and_has_all_rows(lake):
    for number in range(2 * int(CHECKPOINT) + 3):
        lake.insert_missing(PAGES, frame((f"{number}", number, MON)), ["id"])
    checkpoints = Path(lake.location(PAGES), "_delta_log").glob("*.checkpoint.parquet")
    assert lake.version(PAGES) - max(int(path.name.split(".")[0]) for path in checkpoints) < int(CHECKPOINT)
    assert len(stored(lake)) == 2 * int(CHECKPOINT) + 3


def test_days_need_not_follow_one_another(lake):
    lake.replace_days(PAGES, DAYS, frame(("a", 1, MON), ("b", 1, TUE), ("c", 1, WED), ("d", 1, THU)))
    lake.replace_days(PAGES, [THU, MON], frame(("e", 2, THU)))
    assert stored(lake) == [("b", 1, TUE), ("c", 1, WED), ("e", 2, THU)]


def test_no_rows_empty_the_day(lake):
    lake.replace_days(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 1, TUE)))
    lake.replace_days(PAGES, [MON], frame())
    assert stored(lake) == [("b", 1, TUE)]
    assert lake.days(PAGES) == [TUE]


def test_rows_for_which_the_condition_does_not_hold_stay(lake):
    lake.replace_days(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 1, MON), ("a", 1, TUE)))
    lake.replace_days(PAGES, [MON], frame(("a", 9, MON), ("a", 10, MON)), only="id = 'a'")
    lake.replace_days(PAGES, [TUE], frame(), only="id = 'b'")
    assert stored(lake) == [("a", 1, TUE), ("a", 9, MON), ("a", 10, MON), ("b", 1, MON)]


@pytest.mark.parametrize(
    ("days", "only", "row"),
    [
        ([MON], None, ("x", 1, TUE)),
        ([MON, WED], None, ("x", 1, TUE)),
        ([MON], "id = 'a'", ("x", 1, MON)),
    ],
    ids=["another day", "a day between", "another condition"],
)
def test_a_row_that_a_second_run_would_not_replace_is_refused_and_nothing_changes(lake, days, only, row):
    before = [("a", 1, MON), ("b", 1, TUE)]
    lake.replace_days(PAGES, [MON, TUE], frame(*before))
    with pytest.raises(DeltaError):
        lake.replace_days(PAGES, days, frame(("a", 2, MON), row), only=only)
    assert stored(lake) == before


def test_a_column_that_is_new_is_null_in_older_rows_and_one_that_is_missing_in_newer_rows(lake):
    lake.replace_days(PAGES, [MON], frame(("a", 1, MON)))
    lake.replace_days(PAGES, [TUE], frame(("b", 1, TUE)).with_columns(extra=pl.lit("new")))
    lake.replace_days(PAGES, [WED], frame(("c", 1, WED)))
    assert lake.columns(PAGES) == ["id", "value", "event_date", "extra"]
    assert lake.read(PAGES).sort("id")["extra"].to_list() == [None, "new", None]
    lake.insert_missing(PAGES, frame(("d", 1, THU)).with_columns(more=pl.lit(1.5)), ["id"])
    lake.append_once(PAGES, frame(("e", 1, THU)).with_columns(most=pl.lit(["x"])), {}, {"s": 1})
    assert {*lake.columns(PAGES)} == {"id", "value", "event_date", "extra", "more", "most"}
    assert lake.count(PAGES) == 5


def test_rows_are_appended_once_with_the_position_of_their_source(lake):
    assert lake.checkpoint(PAGES, "stream:0") is None
    lake.append_once(PAGES, frame(("a", 1, MON)), {"stream:0": None}, {"stream:0": 10, "stream:1": 5})
    lake.append_once(PAGES, frame(("b", 1, MON)), {"stream:0": 10}, {"stream:0": 12})
    assert (lake.checkpoint(PAGES, "stream:0"), lake.checkpoint(PAGES, "stream:1")) == (12, 5)
    assert stored(lake) == [("a", 1, MON), ("b", 1, MON)]


def test_positions_of_many_sources_are_checked_as_those_of_few(lake):
    many = {f"s{number}": number for number in range(50)}
    lake.append_once(PAGES, frame(("a", 1, MON)), dict.fromkeys(many), many)
    with pytest.raises(CommitFailedError, match="another writer"):
        lake.append_once(PAGES, frame(("b", 1, MON)), dict.fromkeys(many), many)
    following = {source: number + 1 for source, number in many.items()}
    lake.append_once(PAGES, frame(("b", 1, MON)), many, following)
    assert stored(lake) == [("a", 1, MON), ("b", 1, MON)]


@pytest.mark.parametrize("started", [None, 5, 12])
def test_an_append_that_began_before_another_one_ended_is_refused_and_adds_nothing(lake, started):
    lake.append_once(PAGES, frame(("a", 1, MON)), {"stream:0": None}, {"stream:0": 10})
    version = lake.version(PAGES)
    with pytest.raises(CommitFailedError, match="another writer"):
        lake.append_once(PAGES, frame(("b", 1, MON)), {"stream:0": started}, {"stream:0": 20})
    assert (stored(lake), lake.version(PAGES)) == ([("a", 1, MON)], version)
    assert lake.checkpoint(PAGES, "stream:0") == 10


def test_only_rows_with_a_new_key_are_inserted_and_counted(lake):
    first = frame(("a", 1, MON), ("b", 1, MON), ("a", 2, TUE))
    assert lake.insert_missing(PAGES, first, ["id"]) == 2
    assert lake.insert_missing(PAGES, first, ["id"]) == 0
    assert lake.insert_missing(PAGES, frame(("b", 3, MON), ("c", 3, WED)), ["id"]) == 1
    assert stored(lake) == [("a", 1, MON), ("b", 1, MON), ("c", 3, WED)]


def test_a_key_of_two_columns_is_new_if_either_is(lake):
    lake.insert_missing(PAGES, frame(("a", 1, MON)), ["id", "value"])
    assert lake.insert_missing(PAGES, frame(("a", 1, MON), ("a", 2, MON), ("b", 1, MON)), ["id", "value"]) == 2


def test_keys_may_be_looked_for_in_some_days_only(lake):
    lake.insert_missing(PAGES, frame(("a", 1, MON)), ["id"])
    assert lake.insert_missing(PAGES, frame(("a", 2, TUE)), ["id"], days=[TUE]) == 1
    assert lake.insert_missing(PAGES, frame(("a", 3, TUE)), ["id"], days=[MON, TUE]) == 0


def test_nothing_to_insert_makes_the_table_and_no_further_version(lake):
    assert lake.insert_missing(PAGES, frame(), ["id"]) == 0
    version = lake.version(PAGES)
    assert lake.insert_missing(PAGES, frame(), ["id"]) == 0
    assert (lake.version(PAGES), lake.count(PAGES)) == (version, 0)


def test_no_days_have_no_rows_and_nothing_is_added_to_them(lake):
    lake.insert_missing(PAGES, frame(), ["id"], days=[])
    lake.insert_missing(PAGES, frame(("a", 1, MON)), ["id"])
    version = lake.version(PAGES)
    assert lake.read(PAGES, []).is_empty()
    lake.insert_missing(PAGES, frame(), ["id"], days=[])
    assert lake.version(PAGES) == version


def test_a_small_table_that_is_replaced_by_equal_rows_has_no_new_version(lake):
    rows = pl.DataFrame({"task": ["irony", "hate"], "f1": [0.5, float("nan")], "labels": [["a"], []]})
    version = lake.replace_all("operations/model_versions", rows)
    assert lake.replace_all("operations/model_versions", rows) == version
    assert lake.replace_all("operations/model_versions", rows.head(1)) == version + 1
    assert lake.read("operations/model_versions").rows() == rows.head(1).rows()
    lake.replace_all("operations/model_versions", rows.clear())
    assert lake.count("operations/model_versions") == 0


def test_a_small_table_may_change_its_columns(lake):
    lake.replace_all("operations/model_versions", pl.DataFrame({"task": ["irony"], "f1": [0.5]}))
    lake.replace_all("operations/model_versions", pl.DataFrame({"task": ["irony"], "version": [2]}))
    assert lake.columns("operations/model_versions") == ["task", "version"]


def test_a_key_moves_to_the_day_of_its_newest_row_whichever_comes_first(tmp_path):
    rows = {MON: frame(("a", 1, MON), ("b", 1, MON)), TUE: frame(("a", 2, TUE))}
    for number, order in enumerate(([MON, TUE], [TUE, MON], [MON, TUE, MON, TUE, TUE])):
        lake = Lakehouse(uri=str(tmp_path / str(number)))
        for day in order:
            lake.merge_newest(PAGES, [day], rows[day], key=["id"], by="value")
        assert stored(lake) == [("a", 2, TUE), ("b", 1, MON)]


def test_a_day_that_is_made_again_with_an_older_row_shows_the_older_row(lake):
    lake.merge_newest(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 5, TUE)), key=["id"], by="value")
    lake.merge_newest(PAGES, [TUE], frame(("b", 3, TUE)), key=["id"], by="value")
    assert stored(lake) == [("a", 1, MON), ("b", 3, TUE)]


def test_a_key_that_its_day_no_longer_has_is_removed(lake):
    lake.merge_newest(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 2, TUE), ("c", 2, TUE)), key=["id"], by="value")
    lake.merge_newest(PAGES, [TUE], frame(("c", 2, TUE)), key=["id"], by="value")
    assert stored(lake) == [("a", 1, MON), ("c", 2, TUE)]
    lake.merge_newest(PAGES, [TUE], frame(), key=["id"], by="value")
    assert stored(lake) == [("a", 1, MON)]


def test_only_the_days_that_hold_one_of_the_newest_rows_are_opened(lake):
    lake.merge_newest(PAGES, [MON, TUE], frame(("a", 1, MON), ("b", 1, TUE)), key=["id"], by="value")
    KeyIndex(lake, PAGES, ["id"]).refresh()
    lose(lake, PAGES, MON)
    lake.merge_newest(PAGES, [WED], frame(("b", 2, WED)), key=["id"], by="value")
    assert lake.days(PAGES) == [MON, WED]
    with pytest.raises(FileNotFoundError):
        lake.merge_newest(PAGES, [WED], frame(("a", 2, WED), ("b", 2, WED)), key=["id"], by="value")


def places(*rows):
    """Return rows of a table with where each came from: id, source, position."""
    columns = {"id": pl.String, "source": pl.String, "position": pl.Int64}
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(event_date=pl.lit(date.fromisoformat(MON)))


def test_rows_that_a_stream_has_added_since_stay(lake):
    lake.replace_days(PAGES, [MON], places(("a", "f", 1), ("b", "f", 2)))
    begun = lake.version(PAGES)
    lake.insert_missing(PAGES, places(("c", "k", 1), ("d", "k", 2)), ["id"])
    # The file's second row has become another; the first of the stream's was seen, and gives no row any more.
    made = places(("a", "f", 1), ("e", "f", 2))
    seen = ReadRows(begun, pl.concat([made, places(("", "k", 1))]).select(PLACE), ("id",))
    for _ in range(2):
        lake.replace_days(PAGES, [MON], made, read=seen)
        assert sorted(lake.read(PAGES)["id"]) == ["a", "d", "e"]


def test_rows_that_a_stream_has_added_to_a_table_that_was_not_there_when_work_began_stay(lake):
    lake.insert_missing(PAGES, places(("c", "k", 1), ("d", "k", 2)), ["id"])
    made = places(("a", "f", 1), ("c", "k", 1))
    lake.replace_days(PAGES, [MON], made, read=ReadRows(None, made.select(PLACE), ("id",)))
    assert sorted(lake.read(PAGES)["id"]) == ["a", "c", "d"]


def test_a_null_in_a_key_is_a_value_like_others(lake, monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    for _ in range(2):
        lake.insert_missing(PAGES, places((None, "f", 1), ("a", "f", 1)), ["id", "source"])
        assert lake.count(PAGES) == 2
    begun = lake.version(PAGES)
    lake.insert_missing(PAGES, places((None, "k", 1)), ["id", "source"])
    made = places((None, "f", 2))
    with pytest.raises(CommitFailedError, match="same key"):
        lake.replace_days(PAGES, [MON], made, read=ReadRows(begun, made.select(PLACE), ("id",)))


def test_a_row_that_a_stream_has_added_under_the_key_of_another_is_not_overwritten(lake, monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    lake.replace_days(PAGES, [MON], places(("a", "f", 1)))
    begun, made = lake.version(PAGES), places(("a", "f", 1), ("b", "f", 2))
    lake.insert_missing(PAGES, places(("b", "k", 1)), ["id"])
    with pytest.raises(CommitFailedError, match="same key"):
        lake.replace_days(PAGES, [MON], made, read=ReadRows(begun, made.select(PLACE), ("id",)))
    assert sorted(lake.read(PAGES)["source"]) == ["f", "k"]


def test_a_bucket_is_reached_at_the_address_of_the_settings_and_keys_stay_in_the_environment():
    found = lakehouse(
        load_settings(
            lakehouse_uri="s3://bucket/lake",
            aws_endpoint_url="http://127.0.0.1:8333",
            aws_region="eu-west-1",
            aws_secret_access_key="hunter2",
        )
    )
    assert found.location(PAGES) == "s3://bucket/lake/silver/pages"
    assert found.storage == {
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:8333",
        "AWS_ALLOW_HTTP": "true",
    }
    assert lakehouse(load_settings(lakehouse_uri="/srv/lake")).storage == {}


KEYS = st.sampled_from("abc")
VALUES = st.integers(0, 3)
ROWS = st.lists(st.tuples(KEYS, VALUES, st.sampled_from(DAYS)), max_size=4)
STEPS = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.just("replace"), st.sets(st.sampled_from(DAYS), min_size=1), ROWS),
            st.tuples(st.just("insert"), st.none(), ROWS),
            st.tuples(st.just("append"), st.none(), ROWS),
        ),
        st.integers(1, 3),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=15)
@given(STEPS)
@pytest.mark.slow
def test_whatever_steps_are_repeated_the_rows_are_those_of_each_step_run_once(tmp_path_factory, steps):
    lake = Lakehouse(uri=str(tmp_path_factory.mktemp("steps")))
    expected: list[Row] = []
    stream: list[Row] = []
    for (verb, days, rows), times in steps:
        if verb == "replace":
            rows = [row for row in rows if row[2] in days]  # noqa: PLW2901
            expected = [row for row in expected if row[2] not in days] + rows
        elif verb == "insert":
            known = {row[0] for row in expected}
            expected += {row[0]: row for row in reversed(rows) if row[0] not in known}.values()
        else:
            stream += rows
            expected += rows
        for _ in range(times):
            if verb == "replace":
                lake.replace_days(PAGES, sorted(days), frame(*rows))
            elif verb == "insert":
                lake.insert_missing(PAGES, frame(*rows), ["id"])
            else:
                done = lake.checkpoint(PAGES, "stream")
                unread = stream[done or 0 :]
                lake.append_once(PAGES, frame(*unread), {"stream": done}, {"stream": len(stream)})
        assert stored(lake) == sorted(expected)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.sets(st.sampled_from(DAYS), min_size=1), ROWS), max_size=4))
@pytest.mark.slow
def test_replacements_run_a_second_time_from_the_start_leave_the_same_rows(tmp_path_factory, steps):
    lake = Lakehouse(uri=str(tmp_path_factory.mktemp("steps")))

    def run() -> list[Row]:
        for days, rows in steps:
            lake.replace_days(PAGES, list(days), frame(*(row for row in rows if row[2] in days)))
        return stored(lake)

    assert run() == run()
