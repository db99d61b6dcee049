"""Finer labels from labelled texts, and their held-out figures."""

import numpy as np
import polars as pl

from signals.models.finer import FinerLabels, Floats
from signals.models.metrics import calibration_error, reliability

# A label's name counts as this many texts. Of 1, 3, 6 and 15, 1 and 3 did best on held-out posts of 157 topics.
NAME_WEIGHT = 2.0
# Texts of one label at most.
MAX_ROWS = 200


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
