"""Labels below a task's own, such as deeper topics: each is known by the mean vector of its texts.

A label without any text but its name is answered by its name.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
# Cosines are divided by this before they become probabilities: of five values, that of the least log loss.
TEMPERATURE = 0.03


@dataclass(frozen=True)
class FinerLabels:
    """The finer labels of a task.

    Attributes:
        labels: their ids.
        parents: of each, the label of the task above it.
        paths: names of each, from the top down.
        vectors: float32, (labels, 384), of unit length.
    """

    labels: tuple[str, ...]
    parents: tuple[str, ...]
    paths: tuple[str, ...]
    vectors: Floats

    @classmethod
    def read(cls, described: list[dict[str, str]], vectors: Floats) -> "FinerLabels":
        """Return what ``described`` and the vectors were made from."""
        labels, parents, paths = (tuple(row[name] for row in described) for name in ("label", "parent", "path"))
        return cls(labels, parents, paths, vectors)

    def shares(self, parent: str, vector: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the places of the labels below one, and the probability of each, which sum to one."""
        places = np.flatnonzero(np.array(self.parents) == parent)
        cosines = np.array([float(vector @ self.vectors[place]) for place in places], np.float64)
        powers = np.exp((cosines - cosines.max(initial=-1.0)) / TEMPERATURE)
        return places, powers / max(powers.sum(), 1e-12)

    def below(self, parent: str, vector: Floats) -> list[tuple[int, float]]:
        """Return the places of the labels below one, likeliest first, each with its probability among them.

        A label is as likely as it and all labels below it together.
        """
        places, shares = self.shares(parent, vector)
        paths = [f"{self.paths[place]} > " for place in places]
        total = [sum(shares[i] for i, path in enumerate(paths) if path.startswith(above)) for above in paths]
        likeliest = sorted(range(len(places)), key=lambda i: -total[i])
        return [(int(places[i]), float(total[i])) for i in likeliest]

    def described(self) -> list[dict[str, Any]]:
        """Return all but the vectors, as JSON."""
        rows = zip(self.labels, self.parents, self.paths, strict=True)
        return [{"label": label, "parent": parent, "path": path} for label, parent, path in rows]
