"""Which tasks must be trained: no champion that can serve, or enough labels that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass

from platform_assets.models.heads import label_counts, labels_of
from resources.lakehouse import Lakehouse
from resources.registry import ModelMissingError, Registry
from signals.tasks import TASKS, Task


@dataclass(frozen=True)
class State:
    """What is known of a task: its champion's transform_id and rows, and the labels there are now."""

    labels: int
    champion_transform: str | None
    champion_labels: int
    attempted_labels: int


def decide(task: Task, state: State, running: str) -> tuple[bool, str]:
    """Say whether a task must be trained, and why (not).

    Args:
        task: names the threshold.
        state: what is known of it.
        running: the running transform_id.
    """
    if not state.labels:
        return False, f"{task.name}: no labels"
    if state.attempted_labels == state.labels and (state.champion_transform in (None, running)):
        return False, f"{task.name}: nothing new since the last training on {state.labels} labels"
    if state.champion_transform is None:
        return True, f"{task.name}: no champion yet, {state.labels} labels"
    if state.champion_transform != running:
        return (
            True,
            f"{task.name}: champion is of transform_id {state.champion_transform}, {running} is running",
        )
    new = state.labels - max(state.champion_labels, state.attempted_labels)
    return new >= task.retrain_after, f"{task.name}: {new} new labels of {task.retrain_after}"


@dataclass(frozen=True)
class Verdict:
    """Whether a task's model must be trained now, and why (not); and whether it has a champion at all."""

    model: str
    needed: bool
    why: str
    served: bool


def verdicts(lakehouse: Lakehouse, registry: Registry, running: str) -> list[Verdict]:
    """Return the verdict on every task."""
    return [
        Verdict(f"models/{name}", *decide(TASKS[name], state, running), state.champion_transform is not None)
        for name, state in states(lakehouse, registry).items()
    ]


def states(lakehouse: Lakehouse, registry: Registry) -> dict[str, State]:
    """Return the state of every task."""
    counts = label_counts(lakehouse) if lakehouse.exists("silver/labels") else {}
    return {name: _state(task, counts, registry) for name, task in TASKS.items()}


def _state(task: Task, counts: Mapping[str, int], registry: Registry) -> State:
    labels = labels_of(task, counts)
    versions = registry.versions(task.name)
    attempted = int(versions[0].record.get("labels", -1)) if versions else -1
    try:
        champion = registry.champion(task.name)
    except ModelMissingError:
        return State(labels, None, 0, attempted)
    return State(labels, champion.transform_id, int(champion.record.get("labels", 0)), attempted)
