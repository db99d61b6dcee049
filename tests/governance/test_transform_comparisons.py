import pytest

from governance.gates.promotion import Figure, Verdict
from governance.transform_comparisons import Comparisons, ordered_pair
from signals.tasks import TASKS

PICTURES = next(name for name, task in TASKS.items() if task.documents == ("image",))


def recorded(*tasks, passed=True):
    """Return what is recorded of b and a, of which some tasks were measured."""
    figures = tuple(Figure("task", task, "same labels", 500, 1.0) for task in tasks)
    cosine = Figure("cosine", "all", "mean", 500, 1.0)
    return Comparisons({ordered_pair("b", "a"): Verdict(passed, "as it was measured", figures=(cosine, *figures))})


@pytest.mark.parametrize(("trained_under", "running"), [("a", "b"), ("b", "a")])
def test_a_task_that_was_measured_crosses_both_ways(trained_under, running):
    assert recorded("irony").may_score("irony", trained_under, running)


@pytest.mark.parametrize(
    ("known", "task"),
    [
        (Comparisons(), "irony"),
        (Comparisons(), PICTURES),
        (recorded("irony", passed=False), "irony"),
        (recorded("irony", passed=False), PICTURES),
        (recorded("irony"), "hate"),
        (recorded(), "irony"),
    ],
    ids=["not recorded", "not recorded, pictures", "failed", "failed, pictures", "not measured", "nothing measured"],
)
def test_what_is_not_known_to_answer_alike_does_not_cross(known, task):
    assert not known.may_score(task, "a", "b")
    assert known.may_score(task, "a", "a"), "the same transformation needs no comparison"


def test_what_reads_pictures_crosses_unmeasured():
    assert recorded("irony").may_score(PICTURES, "a", "b")
    assert not recorded("irony").may_score(PICTURES, "a", "c")


def test_what_was_compared_is_known_of_the_pair_alone():
    known = recorded("irony", "hate")
    assert known.tasks("b", "a") == {"irony", "hate"}
    assert known.tasks("a", "c") == set()
    assert (known.passed("a", "b"), known.passed("a", "c")) == (True, False)
