"""The log of access on disk: several writers, kills, and a second store."""

import os
import subprocess
import sys

import pytest

from governance.access import Identity
from resources.access_log import AccessLog, AccessLogError
from resources.settings import PROJECT, load_settings
from resources.write_once import WriteOnceError

ASKS = Identity("key 1a2b", "analyst", "acme")
KEY = "a key of the tests"


def log_of(folder, **given):
    kept = {"access_log": str(folder / "log"), "access_anchors": str(folder / "anchors"), "access_log_key": KEY}
    return AccessLog(load_settings(**kept | given))


def ask(log, count=1):
    for number in range(count):
        with log.recorded(ASKS, "sql", f"SELECT {number}", "SELECT ?") as answer:
            answer.tables, answer.rows = ["gold/a"], number


def files(folder, part="log"):
    return sorted((folder / part).iterdir())


def test_what_is_asked_is_a_line_and_no_content_is_in_it(tmp_path):
    log = log_of(tmp_path)
    ask(log, 2)
    with pytest.raises(ValueError, match="of a person"), log.recorded(ASKS, "export", "person-7"):
        raise ValueError("of a person")
    text = "".join(file.read_text() for file in files(tmp_path))
    assert [part in text for part in ('"outcome": "ValueError"', '"who": "key 1a2b"', "gold/a")] == [True] * 3
    assert "person" not in text
    assert list(log.faults()) == []
    assert {oct(file.stat().st_mode)[-3:] for file in files(tmp_path)} == {"600"}


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
    assert log.size() == len(files(tmp_path)) == 75
    assert list(log.faults()) == []


def test_a_writer_that_is_killed_before_it_anchors_leaves_no_fault(tmp_path):
    ask(log_of(tmp_path), 3)
    files(tmp_path, "anchors")[-1].unlink()
    assert list(log_of(tmp_path).faults()) == ["line 3 has no anchor"]
    ask(log_of(tmp_path))
    assert list(log_of(tmp_path).faults()) == []


@pytest.mark.parametrize("lines", [2, 3, 5])
def test_nothing_is_answered_after_the_end_was_removed_or_changed(tmp_path, lines):
    ask(log_of(tmp_path), lines)
    last = files(tmp_path)[-1]
    whole = last.read_text()
    for left, says in (
        (None, "is missing"),
        ("nothing", "broken"),
        (files(tmp_path)[-2].read_text(), "is another"),
        (whole.replace('"digest": "', '"digest": "0'), "not the one that was anchored"),
    ):
        last.unlink(missing_ok=True)
        if left is not None:
            last.write_text(left)
        with pytest.raises(AccessLogError, match=says):
            ask(log_of(tmp_path))
        assert len(files(tmp_path)) == lines - (left is None)
        assert list(log_of(tmp_path).faults())


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for given in ({"access_log": str(tmp_path / "file")}, {"access_anchors": str(tmp_path / "file")}):
        with pytest.raises(WriteOnceError, match="is no folder"):
            ask(log_of(tmp_path, **given))


@pytest.mark.slow
def test_a_log_and_its_heads_in_a_bucket_are_never_replaced(tmp_path, store):
    given = {"access_log": f"{store.uri}/log", "access_anchors": f"{store.uri}/heads"}
    log, other = log_of(tmp_path, **given), log_of(tmp_path, **given)
    for writer in (log, other, log, other):
        ask(writer)
    assert list(log.faults()) == []
    store.client.delete_object(Bucket=store.name, Key=f"{store.prefix}/log/000000000004.json")
    with pytest.raises(AccessLogError, match="is missing"):
        ask(log_of(tmp_path, **given))
    store.client.put_object(Bucket=store.name, Key=f"{store.prefix}/heads/000000000001.json", Body=b"{}")
    assert list(log.faults()) == ["line 1 is not the one that was anchored", "line 4 is missing"]
    with pytest.raises(WriteOnceError, match="cannot be used"):
        ask(log_of(tmp_path, access_anchors="s3://nowhere/heads"))
