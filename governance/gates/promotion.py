"""The promotion gate: what a challenger must show before it serves. It fails closed."""

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

from signals.models.metrics import Counts, Indices, Numbers, counts, f1, metric, recall, resampled
from signals.tasks import Task

POLICY = Path(__file__).with_name("promotion.yaml")
# Beyond the fourth digit a figure of some thousand rows says nothing.
DIGITS = 4


@dataclass(frozen=True)
class Limit:
    """By how much a figure may fall: as measured, at the low and at the high end of its interval; None: by any."""

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
    slice_rows: int
    slices: int
    safety_risks: tuple[str, ...]
    safety_labels: Mapping[str, tuple[str, ...]]

    def safety_classes(self, task: Task) -> list[str]:
        """Return the labels of a task that must not be missed more often than now."""
        named = self.safety_labels.get(task.name, ())
        return [label for label in task.labels if label in named or task.risk.get(label) in self.safety_risks]


@lru_cache(maxsize=1)
def policy() -> Policy:
    """Return the policy that holds."""
    told = yaml.safe_load(POLICY.read_text(encoding="utf-8"))
    return Policy(**told | {"limits": {kind: Limit(**limit) for kind, limit in told["limits"].items()}})


@dataclass(frozen=True)
class Figure:
    """One figure of a challenger, and the champion's on the same rows.

    Attributes:
        kind: which limit holds: overall, safety, label or slice.
        part: rows that it is of: all, a label, or a slice such as ``language=en``.
        name: what was measured.
        rows: how many held-out rows there are of it.
        challenger: the challenger's figure.
        champion: the champion's; None without one, as are ``low`` and ``high``.
        low: low end of the interval of the difference.
        high: its high end.
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
        """Yield what is wrong with the figure, a line each."""
        said = f"{self.name} of {self.part}"
        known = [self.challenger, *(v for v in (self.champion, self.low, self.high) if v is not None)]
        if not all(map(isfinite, known)):
            yield f"no {said}"
        elif self.champion is not None:
            fall = max(self.champion - self.challenger, 0.0)
            falls = {"measured": fall, "at_worst": -(self.low or 0.0), "surely": -(self.high or 0.0)}
            for name, fallen in falls.items():
                most = getattr(limit, name)
                if most is not None and fallen > max(most, limit.rows / self.rows) + 10**-DIGITS / 2:
                    how = {"measured": "falls", "at_worst": "may fall", "surely": "surely falls"}[name]
                    yield (
                        f"{said} {self.challenger:.3f} is below the champion's {self.champion:.3f}: "
                        f"{how} by {fallen:.3f}, allowed are {most:.2f}"
                    )


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may become champion, why (not), and the figures that say so.

    Attributes:
        passed: it may.
        why: one line.
        against: version of the champion that it was compared with, or None.
        figures: everything that was compared.
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
        told = json.loads(text)
        figures = tuple(Figure(**figure) for figure in told.pop("figures"))
        return cls(**told | {"figures": figures, "unmeasured": tuple(told["unmeasured"])})


def gate(
    task: Task,
    answers: Indices,
    challenger: Numbers,
    champion: Numbers | None,
    *,
    reported: Mapping[str, float],
    slices: pl.DataFrame | None = None,
    against: int | None = None,
) -> Verdict:
    """Compare a challenger with the champion on the same held-out rows, under the policy.

    Args:
        task: names the metric and its floor.
        answers: (rows,) index of the right label.
        challenger: (rows, labels) its scores.
        champion: the champion's; None if there is none that could serve.
        reported: held-out figures that the challenger was registered with.
        slices: a row each of ``answers``, and a column each way to part them; nulls belong to no part.
        against: version of the champion.
    """
    held = policy()
    if not isfinite(reported.get(task.metric, nan)) or not len(answers):
        return Verdict(passed=False, why=f"no {task.metric} on held-out rows: not promoted", against=against)
    if not np.isfinite(challenger).all() or (champion is not None and not np.isfinite(champion).all()):
        return Verdict(passed=False, why="some scores on held-out rows are no numbers: not promoted", against=against)
    parts = slices if slices is not None else pl.DataFrame()
    figures = tuple(_figures(task, answers, challenger, champion, parts, held))
    overall = figures[0]
    faults = [fault for figure in figures for fault in figure.regressions(held.limits[figure.kind])]
    if not overall.challenger >= task.floor:
        faults.insert(0, f"{task.metric} {overall.challenger:.3f} is below the floor of {task.floor:.2f}")
    unmeasured = tuple(c for c in held.safety_classes(task) if not (answers == task.labels.index(c)).any())
    why = "; ".join(faults) or _praise(overall)
    return Verdict(not faults, why, against, figures, unmeasured)


def _praise(overall: Figure) -> str:
    if overall.champion is None or overall.low is None or overall.high is None:
        return f"{overall.name} {overall.challenger:.3f}, no champion to compare with"
    return (
        f"{overall.name} {overall.challenger:.3f} against the champion's {overall.champion:.3f}, "
        f"difference {overall.low:+.3f} to {overall.high:+.3f}"
    )


def _figures(
    task: Task, answers: Indices, challenger: Numbers, champion: Numbers | None, slices: pl.DataFrame, held: Policy
) -> Iterator[Figure]:
    """Yield the figures: the task's metric over all rows first."""
    found = [scores.argmax(axis=1) for scores in (challenger, champion) if scores is not None]
    drawn = np.vstack([np.ones(len(answers)), resampled(len(answers), held.resamples)])

    def counted(rows: Any) -> list[Counts]:
        return [counts(one[rows], answers[rows], len(task.labels), drawn[:, rows]) for one in found]

    def figure(kind: str, part: str, name: str, rows: int, values: list[Numbers]) -> Figure:
        return Figure(kind, part, name, rows, *_compared(values, held.confidence))

    every = counted(slice(None))
    yield figure("overall", "all", task.metric, len(answers), [metric(task.metric, of) for of in every])
    safety = held.safety_classes(task)
    for index in np.unique(answers):
        label, rows = task.labels[index], int((answers == index).sum())
        if label in safety:
            yield figure("safety", label, "recall", rows, [recall(of)[:, index] for of in every])
        yield figure("label", label, "f1", rows, [f1(of)[:, index] for of in every])
    for part, rows in _parts(slices, held):
        values = [metric(task.metric, of) for of in counted(rows)]
        yield figure("slice", part, task.metric, int(rows.sum()), values)


def _compared(values: list[Numbers], confidence: float) -> tuple[float, ...]:
    """Return a figure's value, and if there are two, the second and the interval of their difference.

    The first of each is that of the rows as they are, the others those of rows drawn again.
    """
    if len(values) == 1:
        return (round(float(values[0][0]), DIGITS),)
    tail = (1 - confidence) / 2
    low, high = np.quantile((values[0] - values[1])[1:], [tail, 1 - tail])
    return tuple(round(float(value), DIGITS) for value in (values[0][0], values[1][0], low, high))


def _parts(slices: pl.DataFrame, held: Policy) -> Iterator[tuple[str, Any]]:
    """Yield the largest slices with the rows, as a mask, that each holds."""
    sizes = [
        (-rows, name, value)
        for name in slices.columns
        for value, rows in slices[name].drop_nulls().value_counts().rows()
        if held.slice_rows <= rows < slices.height
    ]
    for _, name, value in sorted(sizes)[: held.slices]:
        yield f"{name}={value}", (slices[name] == value).fill_null(value=False).to_numpy()
