"""The gate of an encoder: what the heads under it must show before all tasks move to it. It fails closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from governance.promotion import Verdict

# What one task may lose of its metric where all of them together gain.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Compared:
    """A task's metric on the same held-out rows: under the encoder, where a head has passed, and as it serves."""

    value: float | None
    serving: float | None
    rows: float

    @property
    def allowed(self) -> float:
        """How far the metric may fall: on few rows, by the standard error of a share of them, at most."""
        return max(TOLERANCE, 0.5 / self.rows**0.5)


def gate(figures: Mapping[str, Compared]) -> Verdict:
    """Judge an encoder.

    Args:
        figures: of each task that has a champion.
    """
    if not figures:
        return Verdict(passed=False, why="no task has a champion to compare with: not promoted")
    values, serving = [], []
    for task, one in figures.items():
        if one.value is None or not isfinite(one.value):
            return Verdict(passed=False, why=f"{task} has no head that passed its gate: not promoted")
        if one.serving is None or not isfinite(one.serving) or not one.rows > 0:
            return Verdict(passed=False, why=f"the champion of {task} has no figure to compare with: not promoted")
        if one.value < one.serving - one.allowed:
            why = f"{task} {one.value:.3f} is below the champion's {one.serving:.3f} by more than {one.allowed:.3f}"
            return Verdict(passed=False, why=why)
        values.append(one.value)
        serving.append(one.serving)
    mean, before = sum(values) / len(values), sum(serving) / len(serving)
    return Verdict(passed=mean >= before, why=f"mean of {len(values)} tasks {mean:.3f} against {before:.3f}")
