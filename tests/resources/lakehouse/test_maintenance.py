"""Compaction and clean-up: the same rows in fewer files, beside writers that do not wait for it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from resources.lakehouse.disk import compact, purge
from resources.lakehouse.files import log_entries
from resources.lakehouse.reading import VersionGoneError
from resources.lakehouse.staleness import input_fingerprints, stale_days
from tests.support.delta import MON, PAGES, TUE, frame, stored

SOURCE = "bronze/page_fetches"
DAY = timedelta(days=1)


def files(lake, table=PAGES):
    return len(lake.open(table).file_uris())


def append(lake, count, day=MON, table=PAGES, prefix="a"):
    for number in range(count):
        lake.append_once(table, frame((f"{prefix}{number}", number, day)), {}, {prefix: number})


def age(lake, entries, by=2 * DAY, table=PAGES):
    """Have some entries of a table's log, or files of it, be older."""
    for entry in entries:
        path = Path(lake.location(table)) / entry
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - by.total_seconds()))


def test_small_files_become_one_a_day_and_a_day_with_few_is_left_alone(lake):
    append(lake, 5)
    append(lake, 1, TUE, prefix="b")
    rows, version = stored(lake), lake.version(PAGES)
    assert compact(lake, PAGES, small_files=5) == 0
    assert lake.version(PAGES) == version
    assert compact(lake, PAGES) == 4
    assert (files(lake), stored(lake)) == (2, rows)
    version = lake.version(PAGES)
    assert compact(lake, PAGES) == 0
    assert lake.version(PAGES) == version, "nothing is new, so nothing is rewritten"
    assert lake.checkpoint(PAGES, "a") == 4


def test_a_compacted_day_makes_no_other_stale_and_one_that_changes_again_does(lake):
    append(lake, 3, table=SOURCE)
    append(lake, 2, TUE, SOURCE, "b")
    for day in (MON, TUE):
        lake.replace_days(PAGES, [day], frame(), checkpoints=input_fingerprints(lake, PAGES, [SOURCE], [day]))
    for _ in range(2):
        compact(lake, SOURCE)
        assert stale_days(lake, PAGES, [SOURCE]) == []
        lake.append_once(SOURCE, frame(("c", 1, MON)), {}, {})
        assert stale_days(lake, PAGES, [SOURCE]) == [MON]
        lake.save_checkpoints(PAGES, input_fingerprints(lake, PAGES, [SOURCE], [MON]))


def test_a_row_that_came_while_a_day_was_compacted_makes_it_stale(lake, monkeypatch):
    append(lake, 3, table=SOURCE)
    lake.replace_days(PAGES, [MON], frame(), checkpoints=input_fingerprints(lake, PAGES, [SOURCE], [MON]))
    opened = type(lake).open

    def then_a_rival(self, table):
        delta = opened(self, table)
        monkeypatch.setattr(type(lake), "open", opened)
        append(lake, 1, table=SOURCE, prefix="rival")
        return delta

    monkeypatch.setattr(type(lake), "open", then_a_rival)
    compact(lake, SOURCE)
    assert len(stored(lake, SOURCE)) == 4
    assert stale_days(lake, PAGES, [SOURCE]) == [MON]


def test_statistics_of_compacted_files_are_those_of_the_catalog(lake):
    rows = frame(("a", 1, MON)).with_columns(source=pl.lit("f"), title=pl.lit("a title"))
    for number in range(3):
        lake.append_once(PAGES, rows.with_columns(id=pl.lit(f"{number}")), {}, {})
    compact(lake, PAGES)
    columns = pl.DataFrame(lake.open(PAGES).get_add_actions(flatten=True)).columns
    assert [name for name in columns if name.startswith("min.")] == ["min.source"]


def test_what_was_out_of_use_for_a_day_is_deleted_and_what_was_for_less_is_not(lake):
    append(lake, 25)
    compact(lake, PAGES)
    before, rows = lake.version(PAGES), stored(lake)
    folder = Path(lake.location(PAGES))
    assert purge(lake, PAGES, DAY) == 0
    assert lake.open_version(PAGES, 3).version() == 3
    orphan = folder / f"event_date={MON}" / "part-of-a-killed-writer.parquet"
    frame(("z", 1, MON)).write_parquet(orphan)
    age(lake, [orphan.relative_to(folder), *(f"_delta_log/{name}" for name in log_entries(lake, PAGES))])
    append(lake, 1, prefix="later")
    assert purge(lake, PAGES, DAY) > 20
    assert not orphan.exists()
    assert stored(lake) == sorted([*rows, ("later0", 0, MON)])
    assert lake.open_version(PAGES, before).version() == before, "present a day ago, though not written since"
    with pytest.raises(VersionGoneError):
        lake.open_version(PAGES, 3)
    assert lake.checkpoints(PAGES)["a"] == 24


@pytest.mark.parametrize("small_files", [1, 3])
def test_beside_a_stream_and_a_batch_no_row_is_lost_or_doubled(lake, small_files):
    """Appends, replaced days and maintenance at the same time: each writer finds its own rows."""
    append(lake, 4, prefix="first")
    ended = threading.Event()

    def stream():
        for number in range(25):
            lake.insert_missing(PAGES, frame((f"s{number}", number, MON)), ["id"])

    def batch():
        for number in range(8):
            lake.replace_days(PAGES, [TUE], frame(("b", number, TUE), ("c", number, TUE)))

    def maintain():
        while not ended.is_set():
            compact(lake, PAGES, small_files)
            purge(lake, PAGES, DAY)

    with ThreadPoolExecutor() as threads:
        writers, maintainer = [threads.submit(work) for work in (stream, batch)], threads.submit(maintain)
        wait(writers)
        ended.set()
        for work in (*writers, maintainer):
            work.result()
    compact(lake, PAGES)
    expected = [(f"first{n}", n, MON) for n in range(4)] + [(f"s{n}", n, MON) for n in range(25)]
    assert stored(lake) == sorted([*expected, ("b", 7, TUE), ("c", 7, TUE)])
    assert files(lake) == 2
