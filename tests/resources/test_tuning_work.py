import json

import numpy as np

from resources.tuning_work import STATE, TuningWork


def state(step):
    return {"step": np.array(step), "moments": np.arange(3, dtype=np.float32)}


def test_the_number_of_examples_is_decided_once(tmp_path):
    assert TuningWork(tmp_path, "one").examples(lambda: 700) == 700
    assert TuningWork(tmp_path, "one").examples(lambda: 900) == 700
    assert json.loads((tmp_path / "one" / "plan.json").read_text()) == {"examples": 700}


def test_the_last_state_is_read_again_and_what_cannot_be_read_begins_anew(tmp_path):
    work = TuningWork(tmp_path, "one", seconds=0)
    assert work.load() is None
    for step in (1, 2):
        work.checkpoint(lambda step=step: state(step))
    found = TuningWork(tmp_path, "one").load()
    assert found["step"] == 2
    assert found["moments"].tolist() == [0, 1, 2]
    (tmp_path / "one" / STATE).write_bytes(b"half")
    assert work.load() is None


def test_other_work_leaves_nothing_and_done_work_is_removed(tmp_path):
    TuningWork(tmp_path, "one", seconds=0).checkpoint(lambda: state(1))
    other = TuningWork(tmp_path, "two", seconds=0)
    assert other.load() is None
    assert not (tmp_path / "one").exists()
    other.checkpoint(lambda: state(1))
    other.remove()
    assert [*tmp_path.iterdir()] == []


def test_a_state_is_not_made_before_its_time(tmp_path):
    def never():
        raise AssertionError

    TuningWork(tmp_path, "one", seconds=3_600).checkpoint(never)
