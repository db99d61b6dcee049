from dataclasses import replace
from math import inf, nan

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.gates.promotion import Figure, Limit, Verdict, gate, policy
from signals.tasks import TASKS, Task

TASK = Task("asked", ("no", "yes"), ("page",), metric="accuracy", floor=0.5, retrain_after=10)
RISKY = Task(
    "risky", ("none", "arms", "spam"), ("page",), metric="accuracy", floor=0.3, retrain_after=10,
    risk={"none": "low", "arms": "high", "spam": "medium"},
)  # fmt: skip
GOOD = {"accuracy": 0.8, "rows": 100.0}


def scores(answers, wrong=(), labels=2):
    """Return scores that are right but for the rows given."""
    found = np.array(answers)
    found[list(wrong)] = (found[list(wrong)] + 1) % labels
    return np.eye(labels)[found] * 0.9 + 0.05


def judged(task, answers, challenger, champion=None, *, reported=None, slices=None, against=None):
    labels, answers = len(task.labels), np.array(answers)
    known = None if champion is None else scores(answers, champion, labels)
    figures = {task.metric: 0.8, "rows": 1.0} if reported is None else reported
    return gate(
        task, answers, scores(answers, challenger, labels), known, reported=figures, slices=slices, against=against
    )


ANSWERS = [0, 1] * 100


@pytest.mark.parametrize("champion", [None, ()], ids=["no champion", "a champion"])
@pytest.mark.parametrize(
    "reported",
    [{}, {"rows": 100.0}, {"macro_f1": 0.9}, {"accuracy": nan}, {"accuracy": inf}, {"accuracy": -inf}],
    ids=str,
)
def test_a_challenger_that_was_registered_without_its_metric_is_not_promoted(reported, champion):
    verdict = judged(TASK, ANSWERS, (), champion, reported=reported)
    assert not verdict.passed
    assert "accuracy" in verdict.why


@pytest.mark.parametrize("champion", [None, ()], ids=["no champion", "a champion"])
def test_without_held_out_rows_nothing_is_promoted(champion):
    assert not judged(TASK, np.zeros(0, np.int64), (), champion).passed


@pytest.mark.parametrize("bad", [nan, inf])
@pytest.mark.parametrize("whose", ["challenger", "champion"])
def test_scores_that_are_no_numbers_are_not_promoted(bad, whose):
    answers = np.array(ANSWERS)
    good, broken = scores(answers), scores(answers)
    broken[7, 0] = bad
    pair = (broken, good) if whose == "challenger" else (good, broken)
    assert not gate(TASK, answers, *pair, reported=GOOD).passed


@pytest.mark.parametrize(("wrong", "passed"), [(200, False), (101, False), (100, True), (0, True)])
def test_the_first_champion_must_reach_the_floor(wrong, passed):
    verdict = judged(TASK, ANSWERS, range(wrong))
    assert verdict.passed == passed
    assert f"{1 - wrong / 200:.3f}" in verdict.why


def test_a_floor_holds_even_against_a_worse_champion():
    assert not judged(TASK, ANSWERS, range(120), range(180)).passed


@pytest.mark.parametrize(
    ("challenger", "champion", "passed"),
    [
        (range(10), range(40), True),
        (range(40), range(40), True),
        (range(40, 80), range(40), False),  # as often wrong, but elsewhere: it may be much worse
        (range(41), range(40), True),
        (range(44), range(40), False),
        (range(80), range(40), False),
    ],
    ids=["better", "the same", "no proof", "worse by noise", "worse by more", "much worse"],
)
def test_a_challenger_may_be_equal_or_better_and_no_worse_than_noise(challenger, champion, passed):
    verdict = judged(TASK, ANSWERS, challenger, champion, against=4)
    assert verdict.passed == passed
    assert verdict.against == 4
    overall = verdict.figures[0]
    assert (overall.challenger, overall.champion) == (1 - len(challenger) / 200, 1 - len(champion) / 200)
    assert overall.low <= overall.challenger - overall.champion <= overall.high
    assert f"{overall.challenger:.3f}" in verdict.why


def test_a_safety_class_may_not_be_missed_more_often_however_good_the_rest():
    answers = [0] * 300 + [1] * 60 + [2] * 60
    arms, others = range(300, 306), range(60)
    verdict = judged(RISKY, answers, arms, others)
    assert not verdict.passed
    assert "recall of arms 0.900 is below the champion's 1.000" in verdict.why
    assert judged(RISKY, answers, [300], others).passed, "one row may be mislabelled"
    spam = range(360, 366)
    assert judged(RISKY, answers, spam, others).passed, "medium risk is no safety class"


@pytest.mark.parametrize(("task", "label"), [("toxicity", "offensive"), ("hate", "hate"), ("threat", "terrorism")])
def test_the_policy_names_the_safety_classes(task, label):
    assert label in policy().safety_classes(TASKS[task])


@pytest.mark.parametrize("task", ["irony", "sentiment", "iab_category"])
def test_other_tasks_have_no_safety_class(task):
    assert policy().safety_classes(TASKS[task]) == []


def test_a_safety_class_without_held_out_rows_is_named():
    assert judged(RISKY, [0, 2] * 50, ()).unmeasured == ("arms",)


def test_a_part_of_the_rows_that_is_surely_worse_is_a_regression():
    slices = pl.DataFrame({"language": ["en"] * 100 + ["de"] * 60 + ["fr"] * 30 + [None] * 10})
    german = range(100, 130)
    verdict = judged(TASK, ANSWERS, german, range(60), slices=slices)
    assert not verdict.passed
    assert "accuracy of language=de 0.500 is below the champion's 1.000" in verdict.why
    assert {figure.part for figure in verdict.figures if figure.kind == "slice"} == {
        "language=en", "language=de", "language=fr",
    }  # fmt: skip
    assert judged(TASK, ANSWERS, range(100, 101), range(60), slices=slices).passed


def test_a_label_that_is_surely_worse_is_a_regression():
    answers = [0] * 100 + [1] * 100 + [2] * 20
    task = Task("three", ("a", "b", "c"), ("page",), metric="accuracy", floor=0.1, retrain_after=1)
    verdict = judged(task, answers, range(200, 216), range(40))
    assert not verdict.passed
    assert "f1 of c" in verdict.why


@pytest.mark.parametrize("missing", ["challenger", "champion", "low", "high"])
def test_a_figure_that_is_no_number_is_a_regression_whatever_the_limit(missing):
    figure = Figure(
        "label", "yes", "f1", 10, **{"challenger": 1.0, "champion": 0.5, "low": 0.4, "high": 0.6, missing: nan}
    )
    assert list(figure.regressions(Limit()))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.booleans()), min_size=5, max_size=60))
def test_a_challenger_that_is_right_wherever_the_champion_is_passes_and_the_verdict_can_be_kept(rows):
    answers = [answer for answer, _, _ in rows]
    champion = [i for i, (_, wrong, _) in enumerate(rows) if wrong]
    challenger = [i for i, (_, wrong, still) in enumerate(rows) if wrong and still]
    verdict = judged(TASK, answers, challenger, champion, slices=pl.DataFrame({"length": ["short"] * len(rows)}))
    assert verdict.passed == (1 - len(challenger) / len(rows) >= TASK.floor)
    assert Verdict.load(verdict.dump()) == verdict
    assert verdict == judged(
        TASK, answers, challenger, champion, slices=pl.DataFrame({"length": ["short"] * len(rows)})
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_the_gate_of_every_task_judges_by_its_own_metric_and_floor(task):
    answers = np.arange(len(task.labels) * 4) % len(task.labels)
    right = np.eye(len(task.labels))[answers]
    assert 0 < task.floor < 1
    reported = {task.metric: 1.0, "invariance_gap": 0.0}
    assert gate(task, answers, right, None, reported=reported).passed
    assert not gate(task, answers, np.roll(right, 1, axis=1), None, reported=reported).passed
    assert not gate(task, answers, right, None, reported={}).passed


EVEN, UNEVEN = policy().invariance_gap, min(policy().invariance_gap + 0.2, 1.0)
ABOUT_GROUPS = replace(TASK, groups={"neutral": "no", "attack": "yes"})


@pytest.mark.parametrize(
    ("gap", "champion", "passed"),
    [
        (EVEN, 0.0, True),
        (UNEVEN, 0.0, False),
        (UNEVEN, EVEN, False),
        (UNEVEN, UNEVEN, True),
        (UNEVEN, 1.0, True),
        (UNEVEN, None, True),
        (nan, None, False),
        (nan, UNEVEN, False),
        (None, None, False),
    ],
)
def test_groups_may_not_be_answered_less_alike_than_the_policy_and_the_champion_do(gap, champion, passed):
    answers = np.array(ANSWERS)
    reported = GOOD if gap is None else GOOD | {"invariance_gap": gap}
    known = {} if champion is None else {"invariance_gap": champion}
    right = scores(answers)
    verdict = gate(ABOUT_GROUPS, answers, right, right, reported=reported, champion_reported=known)
    assert verdict.passed == passed
    assert passed or "invariance of groups" in verdict.why
    assert gate(TASK, answers, right, right, reported=reported, champion_reported=known).passed


def test_a_first_champion_needs_the_figure_and_is_not_refused_for_it():
    answers = np.array(ANSWERS)
    first = {"invariance_gap": UNEVEN}
    assert gate(ABOUT_GROUPS, answers, scores(answers), None, reported=GOOD | first).passed
    assert not gate(ABOUT_GROUPS, answers, scores(answers), None, reported=GOOD).passed
