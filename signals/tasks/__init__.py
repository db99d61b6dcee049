"""The questions asked of a document: one small declaration a file, found by being here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules

DOCUMENT_KINDS = ("page", "message", "image")
METRICS = ("macro_f1", "macro_recall", "f1_positive", "accuracy")


@dataclass(frozen=True)
class Task:
    """One question, its possible answers, and how a model of it is judged.

    Attributes:
        name: name of the task, its model and its columns.
        labels: the answers, in the order of the model's scores.
        documents: kinds of document that it is asked of: ``page``, ``message``, ``image``.
        metric: the figure by which a challenger is compared, one of ``METRICS``.
        floor: least value of the metric with which a model may become champion.
        precision: share of its answers that is to be right; its models leave out the least sure ones until it is.
        retrain_after: newly landed labels that start a training.
        names: what a person reads for a label, where that differs from the label.
        seeds: texts that describe a label; they train the labels that nobody has labelled yet.
        auxiliary: other labelled tasks that teach this one, as {task: {their label: our label}}.
        auxiliary_weight: what a auxiliary row counts where one of its own counts one.
        groups: if groups of people are its matter, the label of a ``neutral`` sentence about one and of an ``attack``.
        nothing: the label that says that there is nothing; a page is as bad as its worst passage.
        several: a document may have several of its labels, and finer ones below them.
        explained: its decisions come with the passage and the words that carried them.
        risk: risk level of a label (``floor``, ``high``, ``medium``, ``low``), for brand safety.
    """

    name: str
    labels: tuple[str, ...]
    documents: tuple[str, ...]
    metric: str
    floor: float
    retrain_after: int
    names: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    auxiliary: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    auxiliary_weight: float = 0.1
    precision: float = 0.75
    groups: Mapping[str, str] = field(default_factory=dict)
    nothing: str | None = None
    several: bool = False
    explained: bool = False
    risk: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a declaration that could not work, where it is written rather than where it is used."""
        stray = {*self.names, *self.seeds, *self.risk, *filter(None, [self.nothing])} - set(self.labels)
        stray |= set(self.groups.values()) - set(self.labels)
        stray |= {ours for theirs in self.auxiliary.values() for ours in theirs.values()} - set(self.labels)
        if stray:
            raise ValueError(f"task {self.name}: {sorted(stray)} are not among its labels")
        if self.metric not in METRICS or not set(self.documents) <= set(DOCUMENT_KINDS):
            raise ValueError(f"task {self.name}: metric or document kind unknown")

    @property
    def nothing_index(self) -> int | None:
        """Place of ``nothing`` among the labels; None without it."""
        return None if self.nothing is None else self.labels.index(self.nothing)


def _discover() -> dict[str, Task]:
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    return {module.TASK.name: module.TASK for module in modules}


TASKS: dict[str, Task] = _discover()


def tasks_for(kind: str) -> list[Task]:
    """Return the tasks asked of a kind of document."""
    return [task for task in TASKS.values() if kind in task.documents]
