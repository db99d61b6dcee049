"""The promotion gate: what a challenger must show before it serves. It fails closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from signals.tasks import Task

# A challenger on the same held-out rows may be worse by this much and still be no regression: noise.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may become champion, and the figures that say so."""

    passed: bool
    why: str


def gate(task: Task, challenger: Mapping[str, float], champion: Mapping[str, float] | None) -> Verdict:
    """Compare a challenger's held-out figures with the task's floor and with the champion's.

    Args:
        task: names the metric and its floor.
        challenger: figures of the challenger.
        champion: figures of the champion on the same held-out rows; None if there is no champion that could
            serve (none at all, or one of another transformation).
    """
    value = challenger.get(task.metric)
    if value is None or not isfinite(value) or not challenger.get("rows", 0) > 0:
        return Verdict(passed=False, why=f"no {task.metric} on held-out rows: not promoted")
    if value < task.floor:
        return Verdict(passed=False, why=f"{task.metric} {value:.3f} is below the floor of {task.floor:.2f}")
    if champion is None:
        return Verdict(passed=True, why=f"{task.metric} {value:.3f}, no champion to compare with")
    other = champion.get(task.metric)
    if other is None or not isfinite(other):
        return Verdict(passed=False, why=f"the champion has no {task.metric} to compare with: not promoted")
    if value < other - TOLERANCE:
        return Verdict(passed=False, why=f"{task.metric} {value:.3f} is below the champion's {other:.3f}")
    return Verdict(passed=True, why=f"{task.metric} {value:.3f} against the champion's {other:.3f}")
