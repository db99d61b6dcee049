from resources.lakehouse.staleness import fingerprint, input_fingerprints, invalidate, stale_days
from resources.lakehouse.tables import (
    Lakehouse,
)
from tests.support.delta import MON, PAGES, TUE, WED, frame, stored


def test_days_that_are_invalidated_are_stale_until_they_are_made_again(lake):
    source, made = "bronze/page_fetches", PAGES
    lake.replace_days(source, [MON, TUE], frame(("a", 1, MON), ("b", 1, TUE)))
    lake.replace_days(made, [MON, TUE], frame(), checkpoints=input_fingerprints(lake, made, [source], [MON, TUE]))
    for _ in range(2):
        invalidate(lake, made, [TUE, WED], {"looked": 7})
        assert stale_days(lake, made, [source]) == [TUE, WED], "also a day of which the input has nothing"
        assert lake.checkpoint(made, "looked") == 7
        begun = input_fingerprints(lake, made, [source], [TUE, WED])
        lake.replace_days(made, [TUE, WED], frame(), checkpoints=begun)
        assert stale_days(lake, made, [source]) == []
    invalidate(lake, made, [TUE], {})
    lake.replace_days(made, [TUE], frame(), checkpoints=begun)
    assert stale_days(lake, made, [source]) == [TUE], "it was made from what was there before"
    invalidate(lake, made, [], {"looked": 8})
    assert stale_days(lake, made, [source]) == [TUE]


def test_a_table_is_stale_for_each_day_whose_input_changed_or_is_new(lake):
    source, made = "bronze/page_fetches", PAGES
    lake.replace_days(source, [MON, TUE], frame(("a", 1, MON), ("b", 1, TUE)))
    assert stale_days(lake, made, [source]) == [MON, TUE]
    lake.replace_days(made, [MON, TUE], frame(), checkpoints=input_fingerprints(lake, made, [source], [MON, TUE]))
    assert stale_days(lake, made, [source]) == []
    lake.replace_days(source, [TUE], frame(("b", 2, TUE)))
    lake.append_once(source, frame(("c", 1, WED)), {}, {"s": 1})
    assert stale_days(lake, made, [source]) == [TUE, WED]
    lake.replace_days(made, [TUE], frame(), checkpoints=input_fingerprints(lake, made, [source], [TUE]))
    assert stale_days(lake, made, [source]) == [WED]


def test_upkeep_of_the_log_of_an_input_makes_nothing_stale(lake):
    source = "bronze/page_fetches"
    for number in range(5):
        lake.append_once(source, frame((f"{number}", 1, MON), (f"{number}", 1, TUE)), {}, {"s": number})
    lake.replace_days(PAGES, [MON, TUE], frame(), checkpoints=input_fingerprints(lake, PAGES, [source], [MON, TUE]))
    lake.open(source).create_checkpoint()
    lake.open(source).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    lake.append_once(source, frame(), {}, {"s": 9})
    assert stale_days(lake, PAGES, [source]) == []


def test_a_change_while_a_table_is_made_leaves_it_stale(lake):
    source = "bronze/page_fetches"
    lake.replace_days(source, [MON], frame(("a", 1, MON)))
    marks = input_fingerprints(lake, PAGES, [source], [MON])
    lake.append_once(source, frame(("b", 1, MON)), {}, {"s": 1})
    lake.replace_days(PAGES, [MON], frame(("a", 1, MON)), checkpoints=marks)
    assert stale_days(lake, PAGES, [source]) == [MON]


def test_a_deleted_table_is_stale_for_all_days(lake, tmp_path):
    source = "bronze/page_fetches"
    lake.replace_days(source, [MON, TUE], frame(("a", 1, MON), ("b", 1, TUE)))
    lake.replace_days(PAGES, [MON, TUE], frame(), checkpoints=input_fingerprints(lake, PAGES, [source], [MON, TUE]))
    (tmp_path / "lake/silver/pages").rename(tmp_path / "gone")
    assert stale_days(lake, PAGES, [source]) == [MON, TUE]


def test_any_of_several_inputs_makes_a_day_stale_and_a_missing_one_none(lake):
    inputs = ["bronze/ad_events", "bronze/page_fetches", "bronze/nothing_yet"]
    lake.replace_days(inputs[0], [MON], frame(("a", 1, MON)))
    lake.replace_days(inputs[1], [MON], frame(("a", 1, MON)))
    lake.insert_missing(PAGES, frame(), ["id"], checkpoints=input_fingerprints(lake, PAGES, inputs, [MON]))
    assert stale_days(lake, PAGES, inputs) == []
    assert stale_days(lake, PAGES, inputs[::-1]) == []
    lake.replace_days(inputs[1], [MON], frame(("a", 2, MON)))
    assert stale_days(lake, PAGES, inputs) == [MON]
    assert input_fingerprints(lake, PAGES, [], [MON]) == {}


def test_what_a_stream_changes_makes_stale_only_what_it_does_not_make_itself(lake):
    source, stream = "bronze/page_fetches", Lakehouse(uri=lake.uri, streaming=True)

    def stale():
        return [stale_days(lake, PAGES, [source], streamed=streamed) for streamed in (True, False)]

    stream.append_once(source, frame(("a", 1, MON)), {}, {"s": 1})
    assert stale() == [[MON], [MON]]
    lake.replace_days(
        PAGES, [MON], frame(), checkpoints=input_fingerprints(lake, PAGES, [source], [MON], streamed=True)
    )
    stream.append_once(source, frame(("a", 2, MON)), {}, {"s": 2})
    assert stale() == [[], [MON]]
    lake.append_once(source, frame(("b", 1, TUE)), {}, {"t": 1})
    assert stale() == [[TUE], [MON, TUE]]
    lake.replace_days(
        PAGES, [TUE], frame(("b", 1, TUE)), checkpoints=input_fingerprints(lake, PAGES, [source], [TUE], streamed=True)
    )
    stream.append_once(source, frame(("c", 1, TUE)), {}, {"s": 3})
    stream.insert_missing(source, frame(("d", 1, TUE)), ["id"])
    assert stale()[0] == []
    for change in (
        lambda: lake.append_once(source, frame(("e", 1, TUE)), {}, {"t": 2}),
        lambda: lake.insert_missing(source, frame(("f", 1, TUE)), ["id"]),
        lambda: lake.replace_days(source, [TUE], frame()),
        lambda: lake.merge_newest(source, [TUE], frame(("g", 1, TUE)), key=["id"], by="value"),
    ):
        change()
        assert stale()[0] == [TUE]
        lake.save_checkpoints(PAGES, input_fingerprints(lake, PAGES, [source], [TUE], streamed=True))
        lake.open(source).create_checkpoint()
        assert stale()[0] == []


def test_a_table_may_be_marked_without_writing_rows(lake):
    source = "bronze/page_fetches"
    lake.replace_days(source, [MON], frame(("a", 1, MON)))
    lake.replace_days(PAGES, [MON], frame(("a", 1, MON)))
    assert stale_days(lake, PAGES, [source]) == [MON]
    lake.save_checkpoints(PAGES, input_fingerprints(lake, PAGES, [source], [MON]))
    assert stale_days(lake, PAGES, [source]) == []
    assert stored(lake) == [("a", 1, MON)]


def test_marks_of_insert_missing_are_kept_even_if_nothing_is_missing_and_written_once(lake):
    source = "bronze/page_fetches"
    lake.insert_missing(PAGES, frame(("a", 1, MON)), ["id"])
    lake.replace_days(source, [MON], frame(("a", 1, MON)))
    lake.insert_missing(
        PAGES, frame(("a", 1, MON)), ["id"], checkpoints=input_fingerprints(lake, PAGES, [source], [MON])
    )
    assert stale_days(lake, PAGES, [source]) == []
    version = lake.version(PAGES)
    lake.insert_missing(
        PAGES, frame(("a", 1, MON)), ["id"], checkpoints=input_fingerprints(lake, PAGES, [source], [MON])
    )
    assert lake.version(PAGES) == version


def test_a_fingerprint_tells_sequences_apart_and_fits_a_delta_transaction():
    assert fingerprint(["a", "b"]) == fingerprint(iter(["a", "b"]))
    assert len({fingerprint(parts) for parts in ([], [""], ["a"], ["a", "b"], ["b", "a"])}) >= 4
    assert 0 <= fingerprint(["a"]) < 2**62
