import json

from resources import decision_spool
from resources.decision_spool import FOLDER, DecisionSpool


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
