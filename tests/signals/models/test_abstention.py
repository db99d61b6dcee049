import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.models.abstention import LEAST_COVERAGE, confidence, coverage_curve, right, sure_from

ROWS = st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.6, 0.75, 0.9]), st.booleans()), min_size=1, max_size=80)


def arrays(rows):
    sure, correct = zip(*rows, strict=True)
    return np.array(sure), np.array(correct)


@given(ROWS, st.floats(0, 1))
def test_what_is_given_is_precise_enough_or_nearly_all_that_there_is(rows, precision):
    sure, correct = arrays(rows)
    given_answers = sure >= sure_from(sure, correct, precision)
    assert given_answers.mean() >= LEAST_COVERAGE
    most_left_out = sure >= np.sort(sure)[int(len(sure) * (1 - LEAST_COVERAGE))]
    assert correct[given_answers].mean() >= precision or (given_answers == most_left_out).all()


@given(ROWS, st.floats(0, 1), st.floats(0, 1))
def test_more_precision_leaves_out_no_less(rows, one, other):
    sure, correct = arrays(rows)
    assert sure_from(sure, correct, min(one, other)) <= sure_from(sure, correct, max(one, other))


def test_the_least_confidence_that_is_precise_enough_is_chosen():
    sure = np.linspace(0.5, 0.995, 100)
    correct = np.arange(100) >= 3
    assert sure_from(sure, correct, 0.97) == 0.0
    assert sure_from(sure, correct, 0.975) == pytest.approx(sure[1])
    assert sure_from(sure, correct, 1.0) == pytest.approx(sure[3])
    assert sure_from(sure, np.zeros(100, bool), 0.5) == pytest.approx(sure[5])


def test_of_a_label_that_says_nothing_it_counts_whether_there_is_anything():
    scores = np.array([[0.35, 0.33, 0.32], [0.1, 0.5, 0.4], [0.8, 0.1, 0.1]])
    answers = np.array([1, 2, 0])
    assert confidence(scores, 0).tolist() == pytest.approx([0.35, 0.9, 0.8])
    assert right(scores, answers, 0).tolist() == [False, True, True]
    assert confidence(scores, None).tolist() == [0.35, 0.5, 0.8]
    assert right(scores, answers, None).tolist() == [False, False, True]


def test_the_curve_says_what_is_answered_and_how_much_of_it_is_right():
    figures = coverage_curve(np.array([0.4, 0.55, 0.65, 0.92]), np.array([False, True, False, True]), 0.5)
    assert {name: figures[name] for name in ("sure_from", "coverage")} == {"sure_from": 0.5, "coverage": 0.75}
    assert figures["precision"] == pytest.approx(2 / 3)
    assert (figures["coverage_from_0.00"], figures["accuracy_from_0.00"]) == (1.0, 0.5)
    assert (figures["coverage_from_0.60"], figures["accuracy_from_0.60"]) == (0.5, 0.5)
    assert (figures["coverage_from_0.90"], figures["accuracy_from_0.90"]) == (0.25, 1.0)
    assert "coverage_from_0.95" not in figures
