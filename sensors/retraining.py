"""Retraining of tasks: without a champion that can serve, with enough labels that it has not seen, or after drift.

A champion whose training rows held somebody who was erased since is retrained too.

All state is in the registry and the tables. Each version records the labels that its training saw, so that nothing
depends on a cursor, a failed run or a restart. A rolled-back version counts as trained: only labels beyond those that
it saw count towards the threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

import polars as pl

from governance.transform_comparisons import Comparisons
from platform_assets.models.labelled import label_counts, labels_of
from platform_assets.operations import drift
from platform_assets.operations.drift import MIN_DRIFTED, WINDOWS
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from resources.transform_comparisons import recorded_comparisons
from signals.tasks import TASKS, Task

# This many new labels, as a share of the champion's training rows, suffice where the task's threshold is higher.
ENOUGH_SHARE = 0.2
# A steady flow of labels must not keep a task in training without a pause.
COOL_DOWN = timedelta(minutes=1)


@dataclass(frozen=True)
class Training:
    """One training of a task, as its version records it.

    Attributes:
        labels: number of labels then.
        rows: number of training rows.
        transform_id: transformation of the training, or the running one if a comparison says that both answer alike.
        trained_at: when (UTC).
        settled: the version was judged, and promoted if it passed; false where the run was killed before.
        erased: rows of it were erased since.
    """

    labels: int
    rows: int
    transform_id: str
    trained_at: datetime
    settled: bool = True
    erased: bool = False


@dataclass(frozen=True)
class Window:
    """A measured day of drift: the time of its last decision, and whether it drifted."""

    end: datetime
    drifted: bool


@dataclass(frozen=True)
class State:
    """The observed state of a task.

    Attributes:
        task: the task.
        transform_id: the running transformation.
        labels: number of labels now.
        champion: training of its champion, if it has one.
        latest: the latest training, whatever its outcome.
        windows: measured days of drift of the champion, oldest first.
        in_flight: id of a run that trains it now.
        cool_down: minimum time between two trainings.
    """

    task: Task
    transform_id: str
    labels: int
    champion: Training | None = None
    latest: Training | None = None
    windows: tuple[Window, ...] = ()
    in_flight: str | None = None
    cool_down: timedelta = COOL_DOWN


def decide(state: State, now: datetime) -> tuple[bool, str]:
    """Say whether a task must be trained, and why (not), with the numbers."""
    needed, why = _decide(state, now)
    return needed, f"{state.task.name}: {why}"


def _decide(state: State, now: datetime) -> tuple[bool, str]:
    champion, labels = state.champion, state.labels
    # A training under another transformation does not count.
    latest = state.latest if state.latest and state.latest.transform_id == state.transform_id else None
    if not labels:
        return False, "no labels"
    if state.in_flight:
        return False, f"run {state.in_flight} trains it now"
    if latest and now < latest.trained_at + state.cool_down:
        left = (latest.trained_at + state.cool_down - now).total_seconds()
        return False, f"it has just been trained: the next training may start in {left:.0f} s"
    if latest and not latest.settled:
        return True, f"the last training, on {latest.labels} labels, was neither judged nor promoted"
    if champion and champion.erased and (latest is None or latest.erased):
        return True, "rows that the champion was trained on are erased"
    if latest and latest.labels == labels:
        return False, f"nothing new since the last training on {labels} labels"
    if champion is None:
        return True, f"no champion yet, {labels} labels"
    if champion.transform_id != state.transform_id:
        return True, f"champion is of transform_id {champion.transform_id}, {state.transform_id} is running"
    new, enough = labels - max(champion.labels, latest.labels if latest else 0), threshold(state.task, champion)
    if new >= enough:
        return True, f"{new} new labels of {enough}"
    windows = state.windows[-WINDOWS:]
    drifted = [window for window in windows if window.drifted]
    why = f"{new} new labels of {enough}, drift in {len(drifted)} of {len(windows)} windows"
    drifts_now = bool(drifted) and drifted[-1] is windows[-1]
    drifts_since_training = drifts_now and (latest is None or latest.trained_at < drifted[-1].end)
    # Without new labels training would make the same model, so drift only lowers the threshold.
    return drifts_since_training and len(drifted) >= MIN_DRIFTED and new > 0, why


def threshold(task: Task, champion: Training) -> int:
    """Return how many new labels start a training: the task's number, or fewer if the champion has few rows."""
    return min(task.retrain_after, ceil(ENOUGH_SHARE * champion.rows)) if champion.rows else task.retrain_after


@dataclass(frozen=True)
class Verdict:
    """Whether a task's model must be trained now, and why (not); and whether it has a champion."""

    model: str
    needed: bool
    why: str
    served: bool


def verdicts(
    lakehouse: Lakehouse,
    registry: Registry,
    transform_id: str,
    now: datetime,
    *,
    in_flight: Mapping[str, str] | None = None,
    incoming: Mapping[str, int] | None = None,
    cool_down: timedelta = COOL_DOWN,
) -> list[Verdict]:
    """Return the verdict on every task.

    Args:
        lakehouse: the tables.
        registry: the models.
        transform_id: the running transformation.
        now: the time.
        in_flight: ids of runs that train a model now, by the model's asset.
        incoming: number of labels of each task that the next run brings into silver/labels.
        cool_down: minimum time between two trainings; none where a person starts the run.
    """
    counts = label_counts(lakehouse) if lakehouse.exists("silver/labels") else {}
    measured = drift.latest_windows(lakehouse, now.astimezone(UTC).date(), WINDOWS)
    incoming = incoming or {}
    counts = {task: counts.get(task, 0) + incoming.get(task, 0) for task in {*counts, *incoming}}
    results, versions_by_task, comparisons = [], registry.versions_by_task(), recorded_comparisons(lakehouse)
    for task in TASKS.values():
        model = f"models/{task.name}"
        versions = versions_by_task[task.name]
        champion = next((version for version in versions if version.champion), None)
        trainings = {
            version.version: _training(version, comparisons, transform_id, lakehouse)
            for version in versions
            if version.champion or version is versions[0]
        }
        state = State(
            task,
            transform_id,
            labels_of(task, counts),
            champion=trainings[champion.version] if champion else None,
            latest=trainings[versions[0].version] if versions else None,
            windows=_windows(measured, champion) if champion else (),
            in_flight=(in_flight or {}).get(model),
            cool_down=cool_down,
        )
        results.append(Verdict(model, *decide(state, now), served=champion is not None))
    return results


def _windows(measured: pl.DataFrame, champion: ModelVersion) -> tuple[Window, ...]:
    """Return the measured windows of a champion; days of other versions, or with too few documents, do not count."""
    own = (pl.col("task") == champion.task) & (pl.col("model_version") == champion.version)
    rows = measured.filter(own, pl.col("drifted").is_not_null())
    return tuple(Window(*row) for row in rows.select("answered_at", "drifted").rows())


def _training(version: ModelVersion, comparisons: Comparisons, transform_id: str, lakehouse: Lakehouse) -> Training:
    alike = comparisons.may_score(version.task, version.transform_id, transform_id)
    labels, rows = (int(version.record.get(name, 0)) for name in ("labels", "rows_train"))
    if "copied_from" in version.record and lakehouse.exists("silver/labels"):
        # A copy has seen another environment's labels; labels that were here before it start no training.
        labels = labels_of(TASKS[version.task], label_counts(lakehouse, until=version.trained_at))
    return Training(
        labels,
        rows,
        transform_id if alike else version.transform_id,
        version.trained_at,
        version.settled,
        erased=version.erased_at is not None,
    )
