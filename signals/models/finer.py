"""Labels below a task's own, such as deeper topics: each is known by the mean vector of its texts.

A label without any text but its name is answered by its name.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from signals.models.metrics import calibration_error, reliability

Floats = npt.NDArray[np.float32]
# A label's name counts as this many texts. Of 1, 3, 6 and 15, 1 and 3 did best on held-out posts of 157 topics.
NAME_WEIGHT = 2.0
# Cosines are divided by this before they become probabilities: of five values, that of the least log loss.
TEMPERATURE = 0.03
MAX_ROWS = 200


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


def finer_examples(task: str, labels: pl.DataFrame) -> pl.DataFrame:
    """Return content_hash, text, label, finer_label, finer_path and split of the newest rows of each finer label.

    Args:
        task: name of the task.
        labels: silver/labels.
    """
    rows = labels.filter(pl.col("task") == task, pl.col("finer_label").is_not_null())
    rows = rows.sort("labelled_at", "label_id", descending=True).unique(
        "content_hash", keep="first", maintain_order=True
    )
    rows = rows.group_by("finer_label", maintain_order=True).head(MAX_ROWS)
    return rows.select("content_hash", "text", "label", "finer_label", "finer_path", "split").sort("content_hash")


def fit_finer(rows: pl.DataFrame, vectors: Floats) -> FinerLabels | None:
    """Return the finer labels of rows that train; None without any.

    Args:
        rows: see ``finer_examples``.
        vectors: (rows, 384), of unit length.
    """
    teaches = (rows["split"] == "train").to_numpy()
    if not teaches.any():
        return None
    rows, vectors = rows.filter(pl.Series(teaches)), vectors[teaches]
    is_name = rows.select(pl.col("text").str.ends_with(pl.col("finer_path")).fill_null(value=False)).to_series()
    weights = np.where(is_name.to_numpy(), NAME_WEIGHT, 1.0)
    known = rows.group_by("finer_label").agg(pl.col("label", "finer_path").mode().sort().first()).sort("finer_label")
    places = {label: place for place, label in enumerate(known["finer_label"])}
    sums = np.zeros((len(places), vectors.shape[1]), np.float64)
    np.add.at(sums, [places[label] for label in rows["finer_label"]], vectors * weights[:, None])
    means = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return FinerLabels(tuple(places), tuple(known["label"]), tuple(known["finer_path"]), means)


def finer_metrics(finer: FinerLabels, rows: pl.DataFrame, vectors: Floats) -> dict[str, float]:
    """Return figures for held-out rows, below the right label.

    Returns:
        finer_accuracy and finer_accuracy_3, the shares of rows whose finer label is the likeliest and one of three, and
        finer_calibration_error, that of the likeliest one's probability. None without rows.
    """
    ranks, confidence = [], []
    for place, row in enumerate(rows.iter_rows(named=True)):
        if row["split"] == "val":
            places, shares = finer.shares(row["label"], vectors[place])
            likeliest = [finer.labels[places[order]] for order in np.argsort(-shares, kind="stable")[:3]]
            ranks.append(likeliest.index(row["finer_label"]) if row["finer_label"] in likeliest else 3)
            confidence.append(shares.max(initial=0.0))
    if not ranks:
        return {}
    rank = np.array(ranks)
    return {
        "finer_accuracy": float((rank == 0).mean()),
        "finer_accuracy_3": float((rank < 3).mean()),
        "finer_calibration_error": calibration_error(reliability(np.array(confidence), rank == 0)),
    }
