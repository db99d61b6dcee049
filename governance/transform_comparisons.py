"""Which transformations are recorded to answer alike, so that a model of one may score under the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from governance.gates.promotion import Verdict
from signals.tasks import TASKS

Pair = tuple[str, str]


@dataclass(frozen=True)
class Comparisons:
    """What is recorded of pairs of transformations: those that were not compared are not alike.

    Attributes:
        verdicts: on each pair, as ``ordered_pair`` returns it.
    """

    verdicts: Mapping[Pair, Verdict] = field(default_factory=dict)

    def passed(self, one: str, other: str) -> bool:
        """Say whether two transformations were compared, and answer alike."""
        verdict = self.verdicts.get(ordered_pair(one, other))
        return verdict is not None and verdict.passed

    def tasks(self, one: str, other: str) -> set[str]:
        """Return the tasks whose answers under two transformations were compared."""
        verdict = self.verdicts.get(ordered_pair(one, other))
        return set() if verdict is None else {figure.part for figure in verdict.figures if figure.kind == "task"}

    def may_score(self, task: str, trained_under: str, running: str) -> bool:
        """Say whether a task's model that was trained under one transformation may score under another.

        The comparison must have measured the task, unless it reads pictures, whose answers no encoder changes.
        """
        if trained_under == running:
            return True
        if not self.passed(trained_under, running):
            return False
        return task in self.tasks(trained_under, running) or TASKS[task].documents == ("image",)


def ordered_pair(one: str, other: str) -> Pair:
    """Return a pair of transformations as it is recorded."""
    return (one, other) if one < other else (other, one)
