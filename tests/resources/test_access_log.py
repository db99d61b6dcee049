"""The log of access on disk: several writers, kills, and a second store."""

import os
import subprocess
import sys

import pytest

from governance.access import Identity
from resources.access_log import AccessLog, AccessLogError
from resources.settings import PROJECT, load_settings

ASKS = Identity("key 1a2b", "analyst", "acme")
KEY = "a key of the tests"


def log_of(folder, **given):
    kept = {"access_log": folder / "log", "access_anchors": str(folder / "anchors"), "access_log_key": KEY}
    return AccessLog(load_settings(**kept | given))


def ask(log, count=1):
    for number in range(count):
        with log.recorded(ASKS, "sql", f"SELECT {number}", "SELECT ?") as answer:
            answer.tables, answer.rows = ["gold/a"], number


def test_what_is_asked_is_a_line_and_no_content_is_in_it(tmp_path):
    log = log_of(tmp_path)
    ask(log, 2)
    with pytest.raises(ValueError, match="of a person"), log.recorded(ASKS, "export", "person-7"):
        raise ValueError("of a person")
    text = log.path.read_text()
    assert [part in text for part in ('"outcome": "ValueError"', '"who": "key 1a2b"', "gold/a")] == [True] * 3
    assert "person" not in text.replace("ValueError", "")
    assert list(log.faults()) == []
    assert oct(log.path.stat().st_mode)[-3:] == "600"


WRITER = """
import sys
from pathlib import Path
from tests.resources.test_access_log import ask, log_of
ask(log_of(Path(sys.argv[1])), 25)
"""


def test_writers_at_the_same_time_keep_one_chain(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    log = log_of(tmp_path)
    assert len(list(log.lines())) == 75
    assert list(log.faults()) == []


def test_a_writer_that_is_killed_half_way_leaves_no_fault(tmp_path):
    log = log_of(tmp_path)
    ask(log, 3)
    # Killed after the line, before its anchor.
    (tmp_path / "anchors" / "000000000003.json").unlink()
    assert list(log.faults()) == ["line 3 has no anchor"]
    ask(log)
    assert list(log.faults()) == []
    # Killed in the middle of a line.
    with log.path.open("a") as file:
        file.write('{"number": 5, "at": "2026')
    ask(log)
    assert list(log.faults()) == []
    assert len(list(log.lines())) == 5


def test_nothing_is_answered_after_the_end_was_cut_off_or_changed(tmp_path):
    log = log_of(tmp_path)
    ask(log, 3)
    whole = log.path.read_text().splitlines(keepends=True)
    for left, says in (
        (whole[:2], "was cut off"),
        ([], "was cut off"),
        ([*whole[:2], "nothing\n"], "broken"),
        ([*whole[:2], whole[2].replace('"digest": "', '"digest": "0')], "not the one that was anchored"),
    ):
        log.path.write_text("".join(left))
        with pytest.raises(AccessLogError, match=says):
            ask(log)
        assert log.path.read_text() == "".join(left)
        assert list(log.faults())


def test_a_line_longer_than_what_is_read_at_first_is_found(tmp_path):
    log = log_of(tmp_path)
    for _ in range(2):
        with log.recorded(ASKS, "sql", "SELECT 1", "? , " * 50_000):
            pass
    ask(log)
    assert list(log.faults()) == []


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for given in ({"access_log": tmp_path / "file"}, {"access_anchors": str(tmp_path / "file")}):
        with pytest.raises(AccessLogError, match="cannot be"):
            ask(log_of(tmp_path, **given))


@pytest.mark.slow
def test_heads_in_a_bucket_are_never_replaced(tmp_path, store):
    log = log_of(tmp_path, access_anchors=f"{store.uri}/heads")
    ask(log, 2)
    assert list(log.faults()) == []
    log.path.write_text("".join(log.path.read_text().splitlines(keepends=True)[:1]))
    with pytest.raises(AccessLogError, match="was cut off"):
        ask(log)
    assert list(log.faults()) == ["line 2 is anchored and missing: the end was cut off"]
    store.client.put_object(Bucket=store.name, Key=f"{store.prefix}/heads/000000000001.json", Body=b"{}")
    assert "line 1 is not the one that was anchored" in list(log.faults())
    with pytest.raises(AccessLogError, match="cannot be used"):
        ask(log_of(tmp_path, access_anchors="s3://nowhere/heads"))
