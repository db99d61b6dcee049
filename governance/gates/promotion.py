"""The promotion gate: the figures that a challenger needs before it serves. It fails closed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from signals.models.groups import GAP, TEST, sentences
from signals.models.metrics import Counts, Indices, Numbers, counts, f1, metric, recall, resampled
from signals.tasks import Task

POLICY = Path(__file__).with_name("promotion.yaml")
# A fifth digit of a figure of some thousand rows is noise.
DIGITS = 4


@dataclass(frozen=True)
class Limit:
    """Limits of a figure's fall: as measured, and at the low and high ends of its interval; None is no limit."""

    measured: float | None = None
    at_worst: float | None = None
    surely: float | None = None
    rows: int = 0


@dataclass(frozen=True)
class Policy:
    """``promotion.yaml``."""

    resamples: int
    confidence: float
    limits: Mapping[str, Limit]
    invariance_gap: float
    slice_rows: int
    slices: int
    safety_risks: tuple[str, ...]
    safety_labels: Mapping[str, tuple[str, ...]]

    def safety_classes(self, task: Task) -> list[str]:
        """Return the labels of a task whose recall must not fall."""
        labels = self.safety_labels.get(task.name, ())
        return [label for label in task.labels if label in labels or task.risk.get(label) in self.safety_risks]

    def alike_enough(self, figure: "Figure") -> bool:
        """Say whether a figure shows that groups are answered so alike that no champion need be asked."""
        return figure.kind == "groups" and figure.challenger >= 1 - self.invariance_gap


@lru_cache(maxsize=1)
def policy() -> Policy:
    """Return the policy in force."""
    fields = yaml.safe_load(POLICY.read_text(encoding="utf-8"))
    return Policy(**fields | {"limits": {kind: Limit(**limit) for kind, limit in fields["limits"].items()}})


@dataclass(frozen=True)
class Figure:
    """One figure of a challenger, and the champion's on the same rows.

    Attributes:
        kind: name of its limit: overall, safety, label, slice or groups.
        part: rows that it is of: all, a label, a slice such as ``language=en``, or sentences about groups of people.
        name: name of the metric.
        rows: number of these rows.
        challenger: the challenger's figure.
        champion: the champion's; None without one, as are ``low`` and ``high``.
        low: low end of the interval of the difference.
        high: high end of the interval.
    """

    kind: str
    part: str
    name: str
    rows: int
    challenger: float
    champion: float | None = None
    low: float | None = None
    high: float | None = None

    def regressions(self, limit: Limit) -> Iterator[str]:
        """Yield a line for each limit that the figure's fall exceeds."""
        title = f"{self.name} of {self.part}"
        values = [self.challenger, *(v for v in (self.champion, self.low, self.high) if v is not None)]
        if not all(map(isfinite, values)):
            yield f"no {title}"
        elif self.champion is not None:
            measured = max(self.champion - self.challenger, 0.0)
            falls = {"measured": measured, "at_worst": -(self.low or 0.0), "surely": -(self.high or 0.0)}
            for name, fall in falls.items():
                allowed = getattr(limit, name)
                if allowed is not None and fall > max(allowed, limit.rows / self.rows) + 10**-DIGITS / 2:
                    verb = {"measured": "falls", "at_worst": "may fall", "surely": "surely falls"}[name]
                    yield (
                        f"{title} {self.challenger:.3f} is below the champion's {self.champion:.3f}: "
                        f"{verb} by {fall:.3f}, allowed are {allowed:.2f}"
                    )


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may become champion, with the reason and the figures.

    Attributes:
        passed: it may.
        why: reason, one line.
        against: version of the champion that it was compared with, or None.
        figures: all figures.
        unmeasured: safety classes without a held-out row.
    """

    passed: bool
    why: str
    against: int | None = None
    figures: tuple[Figure, ...] = ()
    unmeasured: tuple[str, ...] = field(default=())

    def dump(self) -> str:
        """Return the verdict as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Verdict":
        """Return the verdict that ``dump`` wrote."""
        fields = json.loads(text)
        figures = tuple(Figure(**figure) for figure in fields.pop("figures"))
        return cls(**fields | {"figures": figures, "unmeasured": tuple(fields["unmeasured"])})


def gate(
    task: Task,
    answers: Indices,
    challenger: Numbers,
    champion: Numbers | None,
    *,
    reported: Mapping[str, float],
    champion_reported: Mapping[str, float] | None = None,
    slices: pl.DataFrame | None = None,
    against: int | None = None,
) -> Verdict:
    """Compare a challenger with the champion on the same held-out rows, under the policy.

    Args:
        task: the task, with its metric and floor.
        answers: (rows,) index of the right label.
        challenger: (rows, labels) scores of the challenger.
        champion: (rows, labels) scores of the champion; None if none could serve.
        reported: held-out figures that the challenger was registered with.
        champion_reported: those of the champion; None if none could serve.
        slices: a row for each of ``answers``, and a column for each partition of them; null is in no slice.
        against: version of the champion.
    """
    rules = policy()
    if not isfinite(reported.get(task.metric, nan)) or not len(answers):
        return Verdict(passed=False, why=f"no {task.metric} on held-out rows: not promoted", against=against)
    if not np.isfinite(challenger).all() or (champion is not None and not np.isfinite(champion).all()):
        return Verdict(passed=False, why="some scores on held-out rows are no numbers: not promoted", against=against)
    parts = slices if slices is not None else pl.DataFrame()
    figures = tuple(_figures(task, answers, challenger, champion, parts, rules))
    overall = figures[0]
    figures += _groups_figure(task, reported, champion_reported or {})
    compared = (figure for figure in figures if not rules.alike_enough(figure))
    faults = [fault for figure in compared for fault in figure.regressions(rules.limits[figure.kind])]
    if not overall.challenger >= task.floor:
        faults.insert(0, f"{task.metric} {overall.challenger:.3f} is below the floor of {task.floor:.2f}")
    unmeasured = tuple(c for c in rules.safety_classes(task) if not (answers == task.labels.index(c)).any())
    why = "; ".join(faults) or _summary(overall)
    return Verdict(not faults, why, against, figures, unmeasured)


def _groups_figure(task: Task, reported: Mapping[str, float], champion: Mapping[str, float]) -> tuple[Figure, ...]:
    """Return how alike a model answers about groups of people, 1 for the same; none where they are no matter of it."""
    if not task.groups:
        return ()
    alike, known = (round(1 - gaps.get(GAP, nan), DIGITS) for gaps in (reported, champion))
    return (Figure("groups", "groups", "invariance", len(sentences(TEST)), alike, known if isfinite(known) else None),)


def _summary(overall: Figure) -> str:
    if overall.champion is None or overall.low is None or overall.high is None:
        return f"{overall.name} {overall.challenger:.3f}, no champion to compare with"
    return (
        f"{overall.name} {overall.challenger:.3f} against the champion's {overall.champion:.3f}, "
        f"difference {overall.low:+.3f} to {overall.high:+.3f}"
    )


def _figures(
    task: Task, answers: Indices, challenger: Numbers, champion: Numbers | None, slices: pl.DataFrame, rules: Policy
) -> Iterator[Figure]:
    """Yield the figures: the task's metric over all rows first."""
    predictions = [scores.argmax(axis=1) for scores in (challenger, champion) if scores is not None]
    weights = np.vstack([np.ones(len(answers)), resampled(len(answers), rules.resamples)])

    def count(rows: Any) -> list[Counts]:
        return [counts(labels[rows], answers[rows], len(task.labels), weights[:, rows]) for labels in predictions]

    def figure(kind: str, part: str, name: str, rows: int, values: list[Numbers]) -> Figure:
        return Figure(kind, part, name, rows, *_estimates(values, rules.confidence))

    totals = count(slice(None))
    yield figure("overall", "all", task.metric, len(answers), [metric(task.metric, c) for c in totals])
    safety = rules.safety_classes(task)
    for index in np.unique(answers):
        label, rows = task.labels[index], int((answers == index).sum())
        if label in safety:
            yield figure("safety", label, "recall", rows, [recall(c)[:, index] for c in totals])
        yield figure("label", label, "f1", rows, [f1(c)[:, index] for c in totals])
    for part, rows in _largest_slices(slices, rules):
        values = [metric(task.metric, c) for c in count(rows)]
        yield figure("slice", part, task.metric, int(rows.sum()), values)


def _estimates(values: list[Numbers], confidence: float) -> tuple[float, ...]:
    """Return the challenger's value; with a champion also its value and the interval of their difference.

    The first of each array is of the rows as they are, the others are of resampled rows.
    """
    if len(values) == 1:
        return (round(float(values[0][0]), DIGITS),)
    tail = (1 - confidence) / 2
    low, high = np.quantile((values[0] - values[1])[1:], [tail, 1 - tail])
    return tuple(round(float(value), DIGITS) for value in (values[0][0], values[1][0], low, high))


def _largest_slices(slices: pl.DataFrame, rules: Policy) -> Iterator[tuple[str, Any]]:
    """Yield the name and the mask of rows of each of the largest slices."""
    sizes = [
        (-rows, name, value)
        for name in slices.columns
        for value, rows in slices[name].drop_nulls().value_counts().rows()
        if rules.slice_rows <= rows < slices.height
    ]
    for _, name, value in sorted(sizes)[: rules.slices]:
        yield f"{name}={value}", (slices[name] == value).fill_null(value=False).to_numpy()
