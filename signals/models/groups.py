"""The same sentence about one group of people or another: what trains models to answer alike, and measures it.

``groups.yaml`` has the groups, first names and sentences. Sentences that train are never measured.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from signals.tasks import Task

# A sentence trains about one in so many groups, by turns. Twice as many rows taught no more.
TRAINED_OF = 6
TRAIN, TEST = "train", "test"
GAP = "invariance_gap"


class Sentence(NamedTuple):
    """A sentence about a group.

    Attributes:
        text: the sentence.
        kind: ``neutral`` or ``attack``.
        group: plural of the group, or origin of the name.
    """

    text: str
    kind: str
    group: str


@cache
def sentences(part: str) -> tuple[Sentence, ...]:
    """Return the sentences of ``TRAIN``, or those of ``TEST``."""
    data = yaml.safe_load(Path(__file__).with_name("groups.yaml").read_text(encoding="utf-8"))
    return tuple(_filled(data, part, TRAINED_OF if part == TRAIN else 1))


def _filled(data: dict[str, Any], part: str, of: int) -> Iterator[Sentence]:
    """Yield each pattern about one in so many groups, by turns."""
    people = [({"A": one, "P": several}, several) for groups in data["groups"].values() for one, several in groups]
    called = [({"N": name}, origin) for origin, names in data["names"].items() for name in names[part == TEST :: 2]]
    for kind, patterns in data[part].items():
        for turn, pattern in enumerate(patterns):
            about = (called if "{N}" in pattern else people)[turn % of :: of]
            yield from (Sentence(_sentence(pattern.format(**words)), kind, group) for words, group in about)


def _sentence(text: str) -> str:
    """Return a text with a capital letter, and ``an`` before a vowel."""
    return re.sub(r"\b([Aa]) (?=[AEIOUaeiou])", r"\1n ", text[0].upper() + text[1:])


def taught(task: Task) -> list[tuple[str, str]]:
    """Return sentences that train a task, each with its label; none where groups are no matter of the task."""
    return [(of.text, task.groups[of.kind]) for of in sentences(TRAIN) if of.kind in task.groups]


def invariance(task: Task, scores: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return how differently a model answers about groups.

    Args:
        task: one that has ``groups``.
        scores: (sentences, labels), what it says of ``sentences(TEST)``.

    Returns:
        neutral_alarms, the share of neutral sentences with a harmful label; attacks_found, the same of attacks; and
        invariance_gap, the largest difference between two groups in the mean probability of a harmful label, of
        sentences of either kind. Shares would jump: a dozen sentences are about a group.
    """
    harmless = task.labels.index(task.groups["neutral"])
    rows = pl.DataFrame(sentences(TEST), list(Sentence._fields), orient="row").with_columns(
        harm=1 - scores[:, harmless], alarm=scores.argmax(axis=1) != harmless
    )
    alarms = dict(rows.group_by("kind").agg(pl.col("alarm").mean()).iter_rows())
    by_group = rows.group_by("kind", "group").agg(pl.col("harm").mean())
    gaps = by_group.group_by("kind").agg(gap=pl.col("harm").max() - pl.col("harm").min())
    return {
        "neutral_alarms": alarms["neutral"],
        "attacks_found": alarms["attack"],
        GAP: float(gaps.select(pl.col("gap").max()).item()),
    }
