from math import nan

import pytest

from governance.gates.encoder import TaskComparison, gate


@pytest.mark.parametrize(
    ("figures", "passed", "why"),
    [
        ({"hate": (0.80, 0.75), "irony": (0.70, 0.70)}, True, "mean of 2 tasks 0.750 against 0.725"),
        ({"hate": (0.70, 0.70)}, True, "mean of 1 tasks 0.700 against 0.700"),
        ({"hate": (0.80, 0.75), "irony": (0.69, 0.70)}, True, "mean of 2 tasks"),
        ({"hate": (0.95, 0.75), "irony": (0.67, 0.70)}, False, "irony 0.670 is below the champion's 0.700 by more"),
        ({"hate": (0.69, 0.70), "irony": (0.70, 0.70)}, False, "mean of 2 tasks 0.695 against 0.700"),
        ({"hate": (0.95, 0.75), "irony": (None, 0.70)}, False, "irony has no head that passed its gate"),
        ({"hate": (0.95, 0.75), "irony": (nan, 0.70)}, False, "irony has no head that passed its gate"),
        ({"hate": (0.95, None)}, False, "the champion of hate has no figure"),
        ({"hate": (0.95, nan)}, False, "the champion of hate has no figure"),
        ({}, False, "no task has a champion"),
    ],
)
def test_all_tasks_together_must_not_lose_and_none_much(figures, passed, why):
    verdict = gate({task: TaskComparison(*pair, rows=2_000) for task, pair in figures.items()})
    assert verdict.passed == passed
    assert why in verdict.why


@pytest.mark.parametrize(("rows", "passed"), [(64, True), (100, True), (400, False), (0, False)])
def test_a_fall_on_few_rows_may_be_chance(rows, passed):
    figures = {"hate": TaskComparison(0.95, 0.75, 2_000), "threat": TaskComparison(0.65, 0.69, rows)}
    assert gate(figures).passed == passed
