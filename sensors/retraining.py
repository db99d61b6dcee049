"""Which tasks must be trained: no champion that can serve, enough labels that it has not seen, or drift.

All that it knows is in the registry and the tables: what a training has seen is kept with the version that it made, so
nothing is lost with a cursor, a failed run or a restart. A version that was rolled back counts as trained: what it had
seen starts no training, and only as many labels again as the threshold asks for do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

import polars as pl

from governance.transform_comparisons import Comparisons
from platform_assets.models.labelled import label_counts, labels_of
from platform_assets.operations import drift
from platform_assets.operations.drift import DRIFTED, WINDOWS
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from resources.transform_comparisons import recorded_comparisons
from signals.tasks import TASKS, Task

# So many new labels, as a share of the rows that trained the champion, start a training though the task waits for more.
ENOUGH = 0.2
# Labels that come all the time must not keep a task in training all the time.
COOL_DOWN = timedelta(minutes=1)


@dataclass(frozen=True)
class Training:
    """One training of a task, as its version records it.

    Attributes:
        labels: how many labels there were.
        rows: rows that it was trained on.
        transform_id: transformation that it was trained under, or the running one if that is known to answer alike.
        at: when (UTC).
        settled: it was judged, and promoted if it passed; a training that was killed before is not.
    """

    labels: int
    rows: int
    transform_id: str
    at: datetime
    settled: bool = True


@dataclass(frozen=True)
class Window:
    """A day that is over, when the last of it was answered, and whether it was unlike what trained, or came before."""

    end: datetime
    drifted: bool


@dataclass(frozen=True)
class State:
    """What is known of a task.

    Attributes:
        task: names the threshold.
        running: the running transform_id.
        labels: how many labels there are now.
        champion: the training of its champion, if it has one.
        latest: the latest training, whatever became of it.
        windows: of drift against the champion, oldest first.
        in_flight: id of a run that trains it now.
        cool_down: least time between two trainings.
    """

    task: Task
    running: str
    labels: int
    champion: Training | None = None
    latest: Training | None = None
    windows: tuple[Window, ...] = ()
    in_flight: str | None = None
    cool_down: timedelta = COOL_DOWN


def decide(state: State, now: datetime) -> tuple[bool, str]:
    """Say whether a task must be trained, and why (not), with the numbers."""
    needed, why = _decided(state, now)
    return needed, f"{state.task.name}: {why}"


def _decided(state: State, now: datetime) -> tuple[bool, str]:
    champion, labels = state.champion, state.labels
    # A training under another transformation says nothing of one under this.
    latest = state.latest if state.latest and state.latest.transform_id == state.running else None
    if not labels:
        return False, "no labels"
    if state.in_flight:
        return False, f"run {state.in_flight} trains it now"
    if latest and now < latest.at + state.cool_down:
        left = (latest.at + state.cool_down - now).total_seconds()
        return False, f"it has just been trained: the next training may start in {left:.0f} s"
    if latest and not latest.settled:
        return True, f"the last training, on {latest.labels} labels, was neither judged nor promoted"
    if latest and latest.labels == labels:
        return False, f"nothing new since the last training on {labels} labels"
    if champion is None:
        return True, f"no champion yet, {labels} labels"
    if champion.transform_id != state.running:
        return True, f"champion is of transform_id {champion.transform_id}, {state.running} is running"
    new, enough = labels - max(champion.labels, latest.labels if latest else 0), threshold(state.task, champion)
    if new >= enough:
        return True, f"{new} new labels of {enough}"
    drifted = [window for window in state.windows[-WINDOWS:] if window.drifted]
    said = f"{new} new labels of {enough}, drift in {len(drifted)} of {len(state.windows[-WINDOWS:])} windows"
    fresh = bool(drifted) and drifted[-1] is state.windows[-1] and (latest is None or latest.at < drifted[-1].end)
    # The same labels would make the same model: drift only lowers the threshold.
    return fresh and len(drifted) >= DRIFTED and new > 0, said


def threshold(task: Task, champion: Training) -> int:
    """Return how many new labels start a training: what the task declares, or fewer if the champion has seen few."""
    return min(task.retrain_after, ceil(ENOUGH * champion.rows)) if champion.rows else task.retrain_after


@dataclass(frozen=True)
class Verdict:
    """Whether a task's model must be trained now, and why (not); and whether it has a champion at all."""

    model: str
    needed: bool
    why: str
    served: bool


def verdicts(
    lakehouse: Lakehouse,
    registry: Registry,
    running: str,
    now: datetime,
    *,
    in_flight: Mapping[str, str] | None = None,
    coming: Mapping[str, int] | None = None,
    cool_down: timedelta = COOL_DOWN,
) -> list[Verdict]:
    """Return the verdict on every task.

    Args:
        lakehouse: has the labels.
        registry: has the trainings.
        running: the running transform_id.
        now: the time.
        in_flight: ids of runs that train a model now, by the model's asset.
        coming: labels of each task that are about to be in the tables.
        cool_down: least time between two trainings; none where a person asks.
    """
    counts = label_counts(lakehouse) if lakehouse.exists("silver/labels") else {}
    measured = drift.latest(lakehouse, now.astimezone(UTC).date(), WINDOWS)
    counts = {task: counts.get(task, 0) + (coming or {}).get(task, 0) for task in {*counts, *(coming or {})}}
    found, known, comparisons = [], registry.versions_by_task(), recorded_comparisons(lakehouse)
    for task in TASKS.values():
        model = f"models/{task.name}"
        versions = known[task.name]
        champion = next((one for one in versions if one.champion), None)
        trainings = {
            one.version: _training(one, comparisons, running, lakehouse)
            for one in versions
            if one.champion or one is versions[0]
        }
        state = State(
            task,
            running,
            labels_of(task, counts),
            champion=trainings[champion.version] if champion else None,
            latest=trainings[versions[0].version] if versions else None,
            windows=_windows(measured, champion) if champion else (),
            in_flight=(in_flight or {}).get(model),
            cool_down=cool_down,
        )
        found.append(Verdict(model, *decide(state, now), served=champion is not None))
    return found


def _windows(measured: pl.DataFrame, champion: ModelVersion) -> tuple[Window, ...]:
    """Return what could be measured of a champion; days of another, or without enough documents, say nothing of it."""
    of_it = (pl.col("task") == champion.task) & (pl.col("model_version") == champion.version)
    rows = measured.filter(of_it, pl.col("drifted").is_not_null())
    return tuple(Window(*row) for row in rows.select("answered_at", "drifted").rows())


def _training(one: ModelVersion, comparisons: Comparisons, running: str, lakehouse: Lakehouse) -> Training:
    alike = comparisons.may_score(one.task, one.transform_id, running)
    labels, rows = (int(one.record.get(name, 0)) for name in ("labels", "rows_train"))
    if "copied_from" in one.record and lakehouse.exists("silver/labels"):
        # It has seen another environment's labels. Those that were here before it came start no training.
        labels = labels_of(TASKS[one.task], label_counts(lakehouse, until=one.trained_at))
    return Training(labels, rows, running if alike else one.transform_id, one.trained_at, one.settled)
