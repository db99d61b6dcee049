import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Barrier

import pytest
from deltalake.exceptions import CommitFailedError

from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT
from tests.support.delta import DAYS, MON, PAGES, frame, stored


def test_of_appends_that_race_from_one_position_exactly_one_wins(lake):
    lake.append_once(PAGES, frame(), {}, {"stream:0": 1})
    start = Barrier(6, timeout=30)

    def race(number: int) -> bool:
        start.wait()
        try:
            lake.append_once(PAGES, frame((f"r{number}", 1, MON)), {"stream:0": 1}, {"stream:0": 2})
        except CommitFailedError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(race, range(6))) == 1
    assert lake.count(PAGES) == 1


def test_of_inserts_that_race_for_a_key_exactly_one_wins_and_none_fails(lake):
    lake.insert_missing(PAGES, frame(), ["id"])
    start = Barrier(4, timeout=30)

    def race(number: int) -> int:
        inserted = 0
        for key in "abcde":
            start.wait()
            inserted += lake.insert_missing(PAGES, frame((key, number, MON)), ["id"])
        return inserted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(race, range(4))) == 5
    assert [row[0] for row in stored(lake)] == [*"abcde"]


def test_threads_that_write_a_new_table_at_once_lose_nothing(lake):
    many = [str(date(2026, 1, 1) + timedelta(days=number)) for number in range(12)]
    start = Barrier(4, timeout=30)

    def write(number: int) -> int:
        start.wait()
        for day in many[number::4]:
            lake.replace_days(PAGES, [day], frame((f"{number}", 1, day)))
            lake.replace_days("silver/quarantine", [MON], frame((f"t{day}", 1, MON)), only=f"id = 't{day}'")
        shared = [(f"k{key}", number, MON) for key in range(number, number + 6)]
        return lake.insert_missing("silver/embeddings", frame(*shared), ["id"])

    with ThreadPoolExecutor(4) as pool:
        inserted = list(pool.map(write, range(4)))
    assert lake.days(PAGES) == many
    assert lake.count(PAGES) == 12
    assert {row[0] for row in stored(lake, "silver/quarantine")} == {f"t{day}" for day in many}
    assert lake.count("silver/quarantine") == 12
    assert Counter(row[0] for row in stored(lake, "silver/embeddings")) == {f"k{key}": 1 for key in range(9)}
    assert sum(inserted) == 9


# Runs in a process of its own, which imports once and forks each writer before any thread has been started.
WRITERS = """
import os, random, signal, sys, time
from datetime import date

import polars as pl
from deltalake.exceptions import CommitFailedError

from resources.lakehouse.tables import Lakehouse

lake = Lakehouse(uri=sys.argv[1])
DAYS = [f"2026-11-{day:02}" for day in range(9, 13)]
BATCHES, SIZE = 8, 5


def frame(day, value, names):
    day = date.fromisoformat(day)
    return pl.DataFrame({"id": list(names), "value": value, "event_date": day}, schema=dict(
        id=pl.String, value=pl.Int64, event_date=pl.Date))


def write(step, writer=""):
    for value in (1, 2):
        for day in DAYS:
            step()
            lake.replace_days("silver/pages", [day], frame(day, value, (f"{writer}{n}" for n in range(SIZE))),
                              only=f"id LIKE '{writer}%'")
    while True:
        step()
        done = lake.checkpoint("bronze/fetches", "stream")
        read = (done or 0) + SIZE
        if read > BATCHES * SIZE:
            return
        rows = frame(DAYS[0], 0, (str(n) for n in range(read - SIZE, read)))
        try:
            lake.append_once("bronze/fetches", rows, {"stream": done}, {"stream": read})
        except CommitFailedError:
            pass


def check():
    for table in ("silver/pages", "bronze/fetches"):
        if lake.exists(table):
            rows = lake.read(table)
            assert rows.height == lake.count(table) == rows.n_unique(["id", "event_date"])
            if table == "silver/pages":
                assert set(rows.group_by("event_date").agg(pl.len(), pl.col("value").n_unique()).rows()) <= {
                    (date.fromisoformat(day), SIZE, 1) for day in DAYS}
            else:
                assert rows.height == (lake.checkpoint(table, "stream") or 0)


def forked(work):
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if sys.argv[2] == "killed":
    chance = random.Random(7)
    for _ in range(6):
        told, tell = os.pipe()
        child = forked(lambda: write(lambda: os.write(tell, b".")))
        for _ in range(chance.randint(1, 7)):
            os.read(told, 1)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        assert ended(forked(check)) == 0
    assert ended(forked(lambda: write(lambda: None))) == 0
else:
    children = [forked(lambda writer=writer: write(lambda: None, writer)) for writer in "xyz"]
    assert [ended(child) for child in children] == [0, 0, 0]
"""


def run_writers(lake: Lakehouse, how: str) -> None:
    command = [sys.executable, "-c", WRITERS, lake.uri, how]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_whole_tables_and_after_a_rerun_the_same_rows(lake):
    run_writers(lake, "killed")
    assert stored(lake) == sorted((str(number), 2, day) for day in DAYS for number in range(5))
    assert [row[0] for row in stored(lake, "bronze/fetches")] == sorted(str(number) for number in range(40))


@pytest.mark.slow
def test_processes_that_write_at_once_lose_and_double_nothing(lake):
    run_writers(lake, "together")
    assert stored(lake) == sorted((f"{w}{number}", 2, day) for w in "xyz" for day in DAYS for number in range(5))
    assert [row[0] for row in stored(lake, "bronze/fetches")] == sorted(str(number) for number in range(40))
