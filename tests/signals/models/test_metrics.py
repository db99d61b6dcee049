import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.models.metrics import calibration_error, counts, evaluate, metric, reliability, resampled
from signals.tasks import METRICS


def test_figures_of_three_labels_by_hand():
    # found:      a    a    b    c    c    c
    scores = np.array(
        [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.0, 0.1, 0.9], [0.3, 0.1, 0.6]]
    )
    answers = np.array([0, 1, 1, 1, 2, 2])
    figures = evaluate(scores, answers, ("a", "b", "c"))
    # a: precision 1/2, recall 1; b: precision 1, recall 1/3; c: precision 2/3, recall 1
    assert figures["f1_a"] == pytest.approx(2 / 3)
    assert figures["f1_b"] == pytest.approx(1 / 2)
    assert figures["f1_c"] == pytest.approx(4 / 5)
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 4 / 5) / 3)
    assert figures["macro_recall"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    # bins of a fifteenth, by confidence: .8 right, .6 wrong and .6 right, .7 right and .7 wrong, .9 right
    assert figures["calibration_error"] == pytest.approx((0.2 + 2 * 0.1 + 2 * 0.2 + 0.1) / 6)
    assert figures["rows"] == 6
    assert "f1_positive" not in figures


def test_figures_of_two_labels_by_hand():
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    figures = evaluate(scores, np.array([0, 0, 1, 1]), ("no", "yes"))
    assert figures["f1_positive"] == figures["f1_yes"] == pytest.approx(1 / 2)
    assert figures["f1_no"] == pytest.approx(1 / 2)
    assert figures["accuracy"] == pytest.approx(1 / 2)


def test_labels_that_do_not_occur_do_not_count():
    scores = np.array([[0.9, 0.1, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0]])
    figures = evaluate(scores, np.array([0, 1]), ("a", "b", "c", "d"))
    assert figures["macro_f1"] == figures["macro_recall"] == figures["accuracy"] == 1.0
    assert {"f1_c", "f1_d"}.isdisjoint(figures)


@pytest.mark.parametrize(("answer", "positive"), [(0, 0.0), (1, 1.0)])
def test_one_label_alone_can_be_judged(answer, positive):
    scores = np.eye(2)[[answer, answer]]
    figures = evaluate(scores, np.array([answer, answer]), ("no", "yes"))
    assert figures["accuracy"] == 1.0
    assert figures["f1_positive"] == positive


def test_an_answer_that_is_never_found_has_no_f1():
    figures = evaluate(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), ("no", "yes"))
    assert figures["f1_positive"] == 0.0
    assert figures["macro_f1"] == pytest.approx(1 / 3)


def test_calibration_error_by_hand():
    confidence = np.array([0.99, 0.97, 0.55, 0.55, 1.0])
    right = np.array([True, False, True, True, True])
    # last bin: mean confidence 2.96 / 3, two of three right; bin of 0.55: two of two right
    bins = reliability(confidence, right)
    assert bins[[8, 14]].tolist() == [[2, pytest.approx(1.1), 2], [3, pytest.approx(2.96), 2]]
    assert calibration_error(bins) == pytest.approx(abs(2.96 / 3 - 2 / 3) * 0.6 + 0.45 * 0.4)
    assert calibration_error(reliability(np.array([1.0, 1.0]), np.array([True, True]))) == 0.0
    assert calibration_error(reliability(np.array([1.0]), np.array([False]))) == 1.0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(0, 1)), min_size=1, max_size=30))
def test_figures_are_shares_whatever_the_scores(rows):
    scores = np.array([[1 - yes, yes] for yes, _ in rows])
    figures = evaluate(scores, np.array([answer for _, answer in rows]), ("no", "yes"))
    assert figures.pop("rows") == len(rows)
    assert all(0.0 <= value <= 1.0 + 1e-9 for value in figures.values())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_figures_are_those_of_scikit_learn(rows):
    from sklearn.metrics import f1_score, recall_score

    found, answers = (np.array(column) for column in zip(*rows, strict=True))
    figures = evaluate(np.eye(3)[found], answers, ("a", "b", "c"))
    asked = np.unique(answers)
    assert figures["macro_f1"] == pytest.approx(
        f1_score(answers, found, labels=asked, average="macro", zero_division=0)
    )
    assert figures["macro_recall"] == pytest.approx(
        recall_score(answers, found, labels=asked, average="macro", zero_division=0)
    )
    assert figures["accuracy"] == pytest.approx((found == answers).mean())


def test_a_figure_of_resampled_rows_is_that_of_the_rows_repeated():
    found, answers = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 1])
    times = resampled(5, 20).astype(int)
    assert times.sum(axis=1).tolist() == [5] * 20
    for name in METRICS:
        values = metric(name, counts(found, answers, 2, times.astype(float)))
        for row, value in zip(times, values, strict=True):
            again = counts(np.repeat(found, row), np.repeat(answers, row), 2)
            assert value == pytest.approx(metric(name, again)[0])


def test_resamples_are_the_same_each_time():
    assert np.array_equal(resampled(30, 10), resampled(30, 10))
