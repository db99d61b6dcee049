"""The gate of an encoder: what the heads under it must show before all tasks move to it. It fails closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan

from governance.gates.promotion import Figure, Verdict

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
    told = tuple(
        Figure("task", task, "metric", int(one.rows), *(nan if v is None else v for v in (one.value, one.serving)))
        for task, one in figures.items()
    )
    faults = [fault for task, one in figures.items() if (fault := _fault(task, one))]
    if faults or not told:
        return Verdict(passed=False, why="; ".join(faults) or "no task has a champion to compare with", figures=told)
    mean, before = (
        sum(values) / len(told) for values in zip(*((f.challenger, f.champion or 0.0) for f in told), strict=True)
    )
    why = f"mean of {len(told)} tasks {mean:.3f} against {before:.3f}"
    return Verdict(passed=mean >= before, why=why, figures=told)


def _fault(task: str, one: Compared) -> str | None:
    if one.value is None or not isfinite(one.value):
        return f"{task} has no head that passed its gate"
    if one.serving is None or not isfinite(one.serving) or not one.rows > 0:
        return f"the champion of {task} has no figure to compare with"
    if one.value < one.serving - one.allowed:
        return f"{task} {one.value:.3f} is below the champion's {one.serving:.3f} by more than {one.allowed:.3f}"
    return None
