from math import inf, nan

import pytest

from governance.promotion import TOLERANCE, gate
from signals.tasks import TASKS, Task

TASK = Task("asked", ("no", "yes"), ("page",), metric="macro_f1", floor=0.5, retrain_after=10)
GOOD = {"macro_f1": 0.8, "rows": 100.0}


@pytest.mark.parametrize("champion", [None, GOOD, {}], ids=["no champion", "a champion", "a champion without figures"])
@pytest.mark.parametrize(
    "challenger",
    [
        {},
        {"rows": 100.0},
        {"accuracy": 0.99, "rows": 100.0},
        {"macro_f1": nan, "rows": 100.0},
        {"macro_f1": inf, "rows": 100.0},
        {"macro_f1": -inf, "rows": 100.0},
        {"macro_f1": 0.9},
        {"macro_f1": 0.9, "rows": 0.0},
        {"macro_f1": 0.9, "rows": nan},
        {"macro_f1": 0.9, "rows": -1.0},
    ],
    ids=str,
)
def test_without_a_metric_on_held_out_rows_nothing_is_promoted(challenger, champion):
    verdict = gate(TASK, challenger, champion)
    assert not verdict.passed
    assert "macro_f1" in verdict.why


@pytest.mark.parametrize(("value", "passed"), [(0.0, False), (0.499, False), (0.5, True), (1.0, True)])
def test_the_first_champion_must_reach_the_floor(value, passed):
    verdict = gate(TASK, {"macro_f1": value, "rows": 1.0}, None)
    assert verdict.passed == passed
    assert f"{value:.3f}" in verdict.why


def test_a_floor_holds_even_against_a_worse_champion():
    assert not gate(TASK, {"macro_f1": 0.4, "rows": 1.0}, {"macro_f1": 0.2, "rows": 1.0}).passed


@pytest.mark.parametrize(
    ("difference", "passed"),
    [(0.1, True), (0.0, True), (-TOLERANCE / 2, True), (-TOLERANCE * 1.5, False), (-0.2, False)],
)
def test_a_challenger_may_be_equal_or_better_and_no_worse_than_noise(difference, passed):
    verdict = gate(TASK, {"macro_f1": 0.8 + difference, "rows": 100.0}, GOOD)
    assert verdict.passed == passed
    assert "0.800" in verdict.why
    assert f"{0.8 + difference:.3f}" in verdict.why


@pytest.mark.parametrize("champion", [{}, {"accuracy": 0.9, "rows": 1.0}, {"macro_f1": nan, "rows": 1.0}])
def test_a_champion_without_a_figure_is_not_replaced_unseen(champion):
    verdict = gate(TASK, GOOD, champion)
    assert not verdict.passed
    assert "champion" in verdict.why


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_the_gate_of_every_task_judges_by_its_own_metric_and_floor(task):
    figures = {"macro_f1": 0.0, "macro_recall": 0.0, "f1_positive": 0.0, "accuracy": 0.0, "rows": 50.0}
    assert 0 < task.floor < 1
    assert gate(task, figures | {task.metric: task.floor}, None).passed
    assert not gate(task, dict.fromkeys(figures, 1.0) | {task.metric: task.floor - 0.001}, None).passed
