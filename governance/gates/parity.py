"""The parity gate: whether two precisions of an encoder give the same answers, so may share heads. It fails closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from governance.gates.promotion import Figure, Verdict
from signals.models.metrics import Indices

POLICY = Path(__file__).with_name("parity.yaml")


@dataclass(frozen=True)
class Policy:
    """``parity.yaml``."""

    texts: int
    least_texts: int
    mean_cosine: float
    least_cosine: float
    same_labels: float


@lru_cache(maxsize=1)
def policy() -> Policy:
    """Return the policy in force."""
    return Policy(**yaml.safe_load(POLICY.read_text(encoding="utf-8")))


def parity(cosines: npt.NDArray[np.float32], labels: Mapping[str, tuple[Indices, Indices]]) -> Verdict:
    """Judge two precisions of an encoder.

    Args:
        cosines: (texts,) cosine of the two vectors of each text.
        labels: by task, the (texts,) label indices of its head under the first precision, and under the second.
    """
    thresholds = policy()
    if not len(cosines) or not labels:
        return Verdict(passed=False, why="no held-out text was compared")
    rows = len(cosines)
    mean, least = round(float(cosines.mean()), 6), round(float(cosines.min()), 6)
    figures = [Figure("cosine", "all", "mean", rows, mean), Figure("cosine", "all", "least", rows, least)]
    faults = [
        f"{name} cosine {value:.4f} is below {least_allowed}"
        for name, value, least_allowed in (
            ("mean", mean, thresholds.mean_cosine),
            ("least", least, thresholds.least_cosine),
        )
        if not value >= least_allowed
    ]
    for task, (first, second) in labels.items():
        texts = len(first)
        share = round(float((first == second).mean()), 6) if texts else 0.0
        figures.append(Figure("task", task, "same labels", texts, share))
        if texts < thresholds.least_texts:
            faults.append(f"{task} has {texts} held-out texts of {thresholds.least_texts}")
        elif (1 - share) * texts > max(1.0, (1 - thresholds.same_labels) * texts) + 1e-6:  # one text may always differ
            faults.append(f"{task} gives {share:.1%} of its texts the same label, not {thresholds.same_labels:.0%}")
    summary = f"mean cosine {mean:.4f}, least {least:.4f}, same labels in {len(labels)} tasks"
    return Verdict(passed=not faults, why="; ".join(faults) or summary, figures=tuple(figures))
