import json
from multiprocessing import get_context

from resources import decision_spool
from resources.decision_spool import FOLDER, DecisionSpool, seal


def lines(root):
    return [json.loads(line) for file in sorted((root / FOLDER).iterdir()) for line in file.read_text().splitlines()]


def test_what_is_appended_is_in_the_file_at_once_and_each_process_has_its_own(tmp_path):
    one, other = DecisionSpool(tmp_path), DecisionSpool(tmp_path)
    one.append([{"n": 1}, {"n": 2}])
    other.append([{"n": 3}])
    assert sorted(line["n"] for line in lines(tmp_path)) == [1, 2, 3]
    assert len(list((tmp_path / FOLDER).iterdir())) == 2
    one.close()
    other.close()


def test_a_file_that_has_grown_large_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(decision_spool, "MAX_BYTES", 5)
    spool = DecisionSpool(tmp_path)
    for number in range(3):
        spool.append([{"n": number}])
    assert len(list((tmp_path / FOLDER).iterdir())) == 3
    assert sorted(line["n"] for line in lines(tmp_path)) == [0, 1, 2]
    spool.close()


def write(root, writer):
    spool = DecisionSpool(root)
    for number in range(200):
        spool.append([{"n": f"{writer}-{number}"}])
    spool.close()


def test_a_sealed_file_grows_no_more_so_that_nothing_is_lost_where_one_is_deleted(tmp_path):
    writers = [get_context("fork").Process(target=write, args=(tmp_path, writer)) for writer in range(2)]
    for writer in writers:
        writer.start()
    found = []
    alive = True
    while alive or [*(tmp_path / FOLDER).iterdir()]:
        alive = any(writer.is_alive() for writer in writers)
        seal(tmp_path)
        for file in [*(tmp_path / FOLDER).glob("*.jsonl")]:
            if not file.stat().st_mode & 0o200:
                found += file.read_text().splitlines()
                file.unlink()
    assert [writer.exitcode for writer in writers] == [0, 0]
    expected = {f"{writer}-{number}" for writer in range(2) for number in range(200)}
    assert len(found) == len(expected)
    assert {json.loads(line)["n"] for line in found} == expected
