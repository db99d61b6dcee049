import polars as pl
import pytest

from resources.lakehouse import Lakehouse
from resources.registry import Registry
from sensors.retraining import State, decide, states
from signals.tasks import TASKS, Task

TASK = Task("toy", ("no", "yes"), ("page",), "macro_f1", 0.5, retrain_after=100)
RUNNING, OTHER = "a" * 16, "b" * 16


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    return Registry(tracking_uri=f"sqlite:///{folder}/db", artifacts=str(folder / "files"), cache=str(folder / "cache"))


@pytest.mark.parametrize(
    ("state", "starts", "why"),
    [
        (State(0, None, 0, -1), False, "no labels"),
        (State(0, OTHER, 500, 500), False, "no labels"),
        (State(50, None, 0, -1), True, "no champion yet, 50 labels"),
        (State(50, None, 0, 50), False, "nothing new since the last training on 50 labels"),
        (State(51, None, 0, 50), True, "no champion yet, 51 labels"),
        (State(500, RUNNING, 500, 500), False, "nothing new since the last training on 500 labels"),
        (State(599, RUNNING, 500, 500), False, "99 new labels of 100"),
        (State(600, RUNNING, 500, 500), True, "100 new labels of 100"),
        (State(900, RUNNING, 500, 500), True, "400 new labels of 100"),
        (State(600, RUNNING, 500, 600), False, "nothing new since the last training on 600 labels"),
        (State(400, RUNNING, 500, 500), False, "-100 new labels of 100"),
        (State(500, OTHER, 500, 500), True, f"champion is of transform_id {OTHER}, {RUNNING} is running"),
        (State(501, OTHER, 500, 500), True, f"champion is of transform_id {OTHER}, {RUNNING} is running"),
    ],
)
def test_a_training_starts_for_new_labels_or_a_champion_that_cannot_serve(state, starts, why):
    assert decide(TASK, state, RUNNING) == (starts, f"toy: {why}")


@pytest.mark.parametrize(("more", "starts"), [(1, False), (99, False)])
def test_after_a_challenger_that_failed_as_many_new_labels_are_waited_for(more, starts):
    assert decide(TASK, State(600 + more, RUNNING, 500, 600), RUNNING)[0] == starts


@pytest.mark.slow
def test_an_unlabelled_lakehouse_and_an_empty_registry_have_a_state(tmp_path, registry):
    found = states(Lakehouse(uri=str(tmp_path / "lake")), registry)
    assert found == {task: State(0, None, 0, -1) for task in TASKS}


@pytest.mark.slow
def test_borrowed_labels_count_for_the_task_that_borrows_them(tmp_path, registry):
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    rows = pl.DataFrame({"label_id": list("abcd"), "task": ["hate", "hate_davidson", "hate_davidson", "sentiment"]})
    lake.replace_all("silver/labels", rows)
    found = states(lake, registry)
    assert {task: state.labels for task, state in found.items() if state.labels} == {
        "hate": 3,
        "toxicity": 2,
        "sentiment": 1,
    }
