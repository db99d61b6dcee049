"""How good a model is: the published metric of each task, and how far its probabilities are from frequencies."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CALIBRATION_BINS = 15

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Counts(NamedTuple):
    """How many rows of each label are predicted rightly, predicted at all, and true; each (resamples, labels)."""

    correct: Numbers
    predicted: Numbers
    support: Numbers


def counts(y_pred: Indices, y_true: Indices, labels: int, weights: Numbers | None = None) -> Counts:
    """Return what every metric is made from.

    Args:
        y_pred: (rows,) index of the label that a model gives.
        y_true: (rows,) index of the right label.
        labels: how many there are.
        weights: (resamples, rows) how often each row counts; once each if None.
    """
    weights = np.ones((1, len(y_true))) if weights is None else weights
    one = np.eye(labels)
    return Counts(weights @ (one[y_true] * (y_pred == y_true)[:, None]), weights @ one[y_pred], weights @ one[y_true])


def f1(of: Counts) -> Numbers:
    """Return the F1 of each label, (resamples, labels); 0 where it is never predicted."""
    return 2 * of.correct / np.maximum(of.predicted + of.support, 1)


def recall(of: Counts) -> Numbers:
    """Return the recall of each label, (resamples, labels); 0 where it has no support."""
    return of.correct / np.maximum(of.support, 1)


def metric(name: str, of: Counts) -> Numbers:
    """Return a task's metric, (resamples,); macro averages are over the labels with support.

    Raises:
        KeyError: no such metric.
    """
    present = of.support > 0
    rows = np.maximum(of.support.sum(axis=1), 1)
    labels = np.maximum(present.sum(axis=1), 1)
    return {
        "macro_f1": lambda: (f1(of) * present).sum(axis=1) / labels,
        "macro_recall": lambda: (recall(of) * present).sum(axis=1) / labels,
        "accuracy": lambda: of.correct.sum(axis=1) / rows,
        "f1_positive": lambda: f1(of)[:, 1],
    }[name]()


def evaluate(scores: Numbers, y_true: Indices, labels: tuple[str, ...]) -> dict[str, float]:
    """Return figures for held-out rows.

    Args:
        scores: (rows, labels) probabilities.
        y_true: (rows,) index of the right label.
        labels: names of the labels.

    Returns:
        macro_f1, macro_recall, accuracy, f1_positive (of label 1, for two labels), calibration_error
        (expected calibration error, Guo et al. 2017), rows, and f1_<label> for each label that occurs.
    """
    y_pred = scores.argmax(axis=1)
    of = counts(y_pred, y_true, len(labels))
    names = ("macro_f1", "macro_recall", "accuracy", *(("f1_positive",) if len(labels) == 2 else ()))
    figures = {name: float(metric(name, of)[0]) for name in names}
    figures["calibration_error"] = calibration_error(reliability(scores.max(axis=1), y_pred == y_true))
    figures["rows"] = float(len(y_true))
    return figures | {f"f1_{labels[index]}": float(f1(of)[0, index]) for index in np.unique(y_true)}


def resampled(rows: int, times: int) -> Numbers:
    """Return (times, rows) how often each row counts in samples drawn with replacement, always the same ones."""
    return np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=times).astype(np.float64)


def reliability(confidence: Numbers, correct: npt.NDArray[np.bool_]) -> Numbers:
    """Return (bins, 3): of each equal-width bin of confidence its rows, summed confidence, and correct rows."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    sums = [np.bincount(bins, of, CALIBRATION_BINS) for of in (np.ones(len(bins)), confidence, correct)]
    return np.stack(sums, axis=1).astype(np.float64)


def calibration_error(bins: Numbers) -> float:
    """Return the mean gap between confidence and accuracy over the bins of ``reliability``, weighted by their rows."""
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / bins[:, 0].sum())
