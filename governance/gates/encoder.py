"""The encoder's gate: the metrics that the heads under it need before all tasks move to it. It fails closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan

from governance.gates.promotion import Figure, Verdict

# Largest loss of one task's metric, where the mean of all tasks does not fall.
TOLERANCE = 0.02


@dataclass(frozen=True)
class TaskComparison:
    """One task's metric on the same held-out rows.

    Attributes:
        value: metric of the head under the new encoder; None if no head has passed.
        serving: metric of the serving champion.
        rows: number of the rows.
    """

    value: float | None
    serving: float | None
    rows: float

    @property
    def tolerance(self) -> float:
        """Largest fall of the metric; on few rows, the largest standard error of a share of them."""
        return max(TOLERANCE, 0.5 / self.rows**0.5)


def gate(comparisons: Mapping[str, TaskComparison]) -> Verdict:
    """Judge an encoder.

    Args:
        comparisons: by task, of each task that has a champion.
    """
    figures = tuple(
        Figure("task", task, "metric", int(c.rows), *(nan if v is None else v for v in (c.value, c.serving)))
        for task, c in comparisons.items()
    )
    faults = [fault for task, comparison in comparisons.items() if (fault := _fault(task, comparison))]
    if faults or not figures:
        why = "; ".join(faults) or "no task has a champion to compare with"
        return Verdict(passed=False, why=why, figures=figures)
    mean, serving = (
        sum(values) / len(figures) for values in zip(*((f.challenger, f.champion or 0.0) for f in figures), strict=True)
    )
    why = f"mean of {len(figures)} tasks {mean:.3f} against {serving:.3f}"
    return Verdict(passed=mean >= serving, why=why, figures=figures)


def _fault(task: str, comparison: TaskComparison) -> str | None:
    value, serving = comparison.value, comparison.serving
    if value is None or not isfinite(value):
        return f"{task} has no head that passed its gate"
    if serving is None or not isfinite(serving) or not comparison.rows > 0:
        return f"the champion of {task} has no figure to compare with"
    if value < serving - comparison.tolerance:
        return f"{task} {value:.3f} is below the champion's {serving:.3f} by more than {comparison.tolerance:.3f}"
    return None
