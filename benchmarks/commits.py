"""A table after thousands of a stream's commits, with maintenance and without: files, log, seconds to open and append.

Usage: python -m benchmarks.commits [--commits 10000] [--days 5] [--without 2000]

A stream commits ten rows at a time, and compacts a day's small files as the worker does. After each day's share of the
commits every file is made a day older, and the nightly maintenance runs while the stream goes on.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from benchmarks.place import folder
from platform_assets.operations.maintenance import KEPT
from resources.lakehouse.days import DAY
from resources.lakehouse.disk import compact, purge
from resources.lakehouse.files import log_entries
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from serving.stream.worker import SMALL_FILES

TABLE = "silver/user_sync"
FIRST = date(2026, 11, 1)
ROWS = 10
# Commits between two reports of the stream's worker.
REPORT = 10
REPEATS = 9


def rows(commit: int, day: date) -> pl.DataFrame:
    """Return the rows of one commit."""
    places = range(commit * ROWS, (commit + 1) * ROWS)
    names = {"tenant_id": "harbour", "source": "kafka:user-sync:0", "user_id": "u", "partner": "p"}
    ids = pl.DataFrame({"sync_id": [f"s-{place}" for place in places], "position": list(places)})
    return ids.with_columns(pl.lit(value).alias(name) for name, value in names.items()).with_columns(
        pl.lit(day).alias(DAY)
    )


def commit(lake: Lakehouse, index: KeyIndex, number: int, day: date) -> None:
    """Add the rows of one commit as a stream does."""
    new = rows(number, day)
    _, version = index.stored(new, [])
    lake.insert_missing(TABLE, new, index.key, looked_at=version)


def a_day_later(lake: Lakehouse) -> None:
    """Make every file of the table a day older."""
    for path in Path(lake.location(TABLE)).rglob("*.*"):
        at = path.stat().st_mtime - timedelta(days=1).total_seconds()
        os.utime(path, (at, at))


def seconds(call: Callable[[], object]) -> float:
    """Return the median of the seconds that a call takes."""
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def state(lake: Lakehouse, commits: int, spent: float) -> str:
    """Return the figures of the table in a line."""
    folder = Path(lake.location(TABLE))
    entries = log_entries(lake, TABLE)
    log = sum((folder / "_delta_log" / name).stat().st_size for name in entries)
    on_disk = sum(1 for _ in folder.rglob("*.parquet")) - sum(name.endswith(".parquet") for name in entries)
    opened, read = seconds(lambda: lake.open(TABLE)), seconds(lambda: lake.read(TABLE, [str(FIRST)]))
    return (
        f"{commits:6} commits: {len(lake.open(TABLE).file_uris()):5} files, {on_disk:5} on disk, "
        f"{len(entries):5} entries of the log, {log / 1e6:6.2f} MB; open {opened * 1e3:6.1f} ms, "
        f"one day {read * 1e3:6.1f} ms, a commit {spent / commits * 1e3:5.1f} ms"
    )


def run(lake: Lakehouse, commits: int, days: int, *, maintained: bool) -> None:
    """Make the commits, and print a line a day."""
    index, started = KeyIndex(lake, TABLE), time.perf_counter()
    with ThreadPoolExecutor(1) as night:
        work = night.submit(lambda: None)
        for number in range(commits):
            day = FIRST + timedelta(days=number * days // commits)
            commit(lake, index, number, day)
            if maintained and number % REPORT == REPORT - 1:
                compact(lake, TABLE, SMALL_FILES)
            if (number + 1) % (commits // days) == 0:
                work.result()
                print(state(lake, number + 1, time.perf_counter() - started), flush=True)
                a_day_later(lake)
                if maintained:
                    work = night.submit(lambda: (compact(lake, TABLE), purge(lake, TABLE, KEPT)))
        work.result()
    stored = lake.read(TABLE)
    if stored.height != commits * ROWS or stored["sync_id"].n_unique() != commits * ROWS:
        sys.exit(f"{stored.height} rows, {stored['sync_id'].n_unique()} distinct, of {commits * ROWS}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--without", type=int, default=2_000, help="commits without maintenance, as one day")
    given = parser.parse_args()
    with folder() as home:
        print("with maintenance")
        run(Lakehouse(uri=f"{home}/with", streaming=True), given.commits, given.days, maintained=True)
        print("without")
        run(Lakehouse(uri=f"{home}/without", streaming=True), given.without, 1, maintained=False)
        print("nothing is lost or doubled")


if __name__ == "__main__":
    main()
