"""When a model is not sure: the confidence below which its answer is left out, learnt from rows that calibrate it."""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
# However imprecise a model is, it answers at least this share of the rows that calibrate it.
LEAST_COVERAGE = 0.95
# Confidences at which coverage and accuracy are told.
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# Names of these figures, before the threshold.
COVERAGE, ACCURACY = "coverage_from_", "accuracy_from_"


def confidence(scores: Numbers, nothing: int | None) -> Numbers:
    """Return how sure each answer is, (rows,).

    Where a label says that there is nothing, what counts is whether there is anything, whichever it is.

    Args:
        scores: (rows, labels).
        nothing: column of that label; None if there is none.
    """
    if nothing is None:
        return scores.max(axis=1)
    return np.where(scores.argmax(axis=1) == nothing, scores[:, nothing], 1 - scores[:, nothing])


def right(scores: Numbers, answers: Indices, nothing: int | None) -> Flags:
    """Say of each answer whether what ``confidence`` is about is right, (rows,)."""
    found = scores.argmax(axis=1)
    return found == answers if nothing is None else (found == nothing) == (answers == nothing)


def sure_from(sure: Numbers, correct: Flags, precision: float) -> float:
    """Return the least confidence from which so many answers are right; 0 where all may be given.

    Args:
        sure: (rows,) what ``confidence`` returned of rows that the model was not fitted on.
        correct: (rows,) what ``right`` returned of them.
        precision: share of the given answers that is to be right.
    """
    order = np.argsort(sure)
    accuracy = correct[order][::-1].cumsum()[::-1] / np.arange(len(order), 0, -1)
    # Rows of the same confidence are all answered, or none of them.
    _, starts = np.unique(sure[order], return_index=True)
    most = int(len(order) * (1 - LEAST_COVERAGE))
    place = min([most, *starts[accuracy[starts] >= precision][:1].tolist()])
    return float(sure[order[place]]) if place else 0.0


def coverage_curve(sure: Numbers, correct: Flags, threshold: float) -> dict[str, float]:
    """Return figures for held-out rows: the share that is answered, and the accuracy there.

    Returns:
        sure_from (the model's threshold), coverage and precision at it, and coverage_from_<confidence> and
        accuracy_from_<confidence> at each of ``THRESHOLDS`` from which anything is answered.
    """
    given = sure >= threshold
    figures = {"sure_from": threshold, "coverage": float(given.mean())}
    if given.any():
        figures["precision"] = float(correct[given].mean())
    for least in THRESHOLDS:
        given = sure >= least
        if given.any():
            figures[f"{COVERAGE}{least:.2f}"] = float(given.mean())
            figures[f"{ACCURACY}{least:.2f}"] = float(correct[given].mean())
    return figures
