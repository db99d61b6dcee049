"""Recorded comparisons of transformations: where two answer alike, a model of one may score under the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from governance.gates.promotion import Verdict
from signals.tasks import TASKS

Pair = tuple[str, str]


@dataclass(frozen=True)
class Comparisons:
    """The verdicts on pairs of transformations; a pair without one does not answer alike.

    Attributes:
        verdicts: verdict by pair, as ``ordered_pair`` returns it.
    """

    verdicts: Mapping[Pair, Verdict] = field(default_factory=dict)

    def passed(self, first: str, second: str) -> bool:
        """Return whether two transformations were compared, and answer alike."""
        verdict = self.verdicts.get(ordered_pair(first, second))
        return verdict is not None and verdict.passed

    def tasks(self, first: str, second: str) -> set[str]:
        """Return the tasks whose answers under two transformations were compared."""
        verdict = self.verdicts.get(ordered_pair(first, second))
        return set() if verdict is None else {figure.part for figure in verdict.figures if figure.kind == "task"}

    def may_score(self, task: str, trained_under: str, running: str) -> bool:
        """Return whether a task's model that was trained under one transformation may score under another.

        The comparison must include the task, unless the task reads pictures, whose answers no encoder changes.
        """
        if trained_under == running:
            return True
        if not self.passed(trained_under, running):
            return False
        return task in self.tasks(trained_under, running) or TASKS[task].documents == ("image",)


def ordered_pair(first: str, second: str) -> Pair:
    """Return a pair of transformations in the order in which it is recorded."""
    return (first, second) if first < second else (second, first)
