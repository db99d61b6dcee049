"""How good a model is: the published metric of each task, and how far its probabilities are from frequencies."""

from typing import Any

import numpy as np
import numpy.typing as npt

CALIBRATION_BINS = 15


def evaluate(
    scores: npt.NDArray[np.float64], answers: npt.NDArray[np.int64], labels: tuple[str, ...]
) -> dict[str, float]:
    """Return figures for held-out rows.

    Args:
        scores: (rows, labels) probabilities.
        answers: (rows,) index of the right label.
        labels: names of the labels.

    Returns:
        macro_f1, macro_recall, accuracy, f1_positive (of label 1, for two labels), calibration_error
        (expected calibration error, Guo et al. 2017), rows, and f1_<label> for each label that occurs.
    """
    from sklearn.metrics import f1_score, recall_score

    found = scores.argmax(axis=1)
    present = np.unique(answers)
    each = f1_score(answers, found, labels=present, average=None, zero_division=0)
    figures: dict[str, Any] = {
        "macro_f1": each.mean(),
        "macro_recall": recall_score(answers, found, labels=present, average="macro", zero_division=0),
        "accuracy": (found == answers).mean(),
        "calibration_error": calibration_error(scores.max(axis=1), found == answers),
        "rows": len(answers),
    }
    if len(labels) == 2:
        figures["f1_positive"] = f1_score(answers, found, pos_label=1, zero_division=0)
    figures |= {f"f1_{labels[index]}": value for index, value in zip(present, each, strict=True)}
    return {name: float(value) for name, value in figures.items()}


def calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, weighted by their rows."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))
