"""From labelled texts to a calibrated head and its held-out figures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from signals.heads import Floats, LinearHead, fit, softmax
from signals.metrics import evaluate
from signals.tasks import Task

# Rows that train one task at most. Memory and time stay bounded however many labels are stored.
MAX_ROWS = 20_000
# Rows of borrowed tasks, as a share of the task's own.
MAX_BORROWED = 0.5
CALIBRATION_SHARE = 0.15
STRENGTHS = (0.3, 1.0, 3.0)
SEED_WEIGHT = 2.0


class NotEnoughLabelsError(ValueError):
    """A task has too few labelled rows, or no held-out ones, to make a model that could be judged."""


@dataclass(frozen=True)
class Trained:
    """A head, the figures of its held-out split, and the rows behind both."""

    head: LinearHead
    metrics: dict[str, float]
    rows: dict[str, int]
    strength: float


def examples(task: Task, labels: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that train and judge a task: content_hash, text, label, split (``train`` or ``val``).

    Args:
        task: its labels and the tasks it borrows from.
        labels: silver/labels: task, label, content_hash, text, split.

    One row a text: the latest answer wins. Which rows are kept when there are too many depends on their
    hashes alone, so the same labels always give the same rows. Borrowed rows only train, and never a text that
    the held-out split holds.
    """
    own = labels.filter(pl.col("task") == task.name, pl.col("label").is_in(task.labels))
    own = own.sort("labelled_at", "label_id").unique("content_hash", keep="last", maintain_order=True)
    val = own.filter(pl.col("split") == "val").sort("content_hash").head(MAX_ROWS)
    train = own.filter(pl.col("split") == "train").sort("content_hash").head(MAX_ROWS)
    borrowed = [
        labels.filter(pl.col("task") == name, pl.col("split") == "train").with_columns(
            label=pl.col("label").replace_strict(mapping, default=None, return_dtype=pl.String)
        )
        for name, mapping in task.borrowed.items()
    ]
    lent = pl.concat([train.clear(), *borrowed]).filter(pl.col("label").is_not_null())
    lent = lent.join(pl.concat([train, val]), on="content_hash", how="anti").unique("content_hash", keep="first", maintain_order=True)
    lent = lent.sort("content_hash").head(int(min(MAX_ROWS - train.height, MAX_BORROWED * train.height)))
    columns = ["content_hash", "text", "label"]
    return pl.concat(
        [train.select(columns, split=pl.lit("train")), lent.select(columns, split=pl.lit("train")), val.select(columns, split=pl.lit("val"))]
    )


def train(task: Task, rows: pl.DataFrame, vectors: Floats, seed_vectors: Floats) -> Trained:
    """Fit, calibrate and judge a head.

    The regularisation strength and the temperature are chosen on a part of the training rows; the held-out
    split is only looked at for the figures.

    Args:
        task: the declaration.
        rows: what ``examples`` returned.
        vectors: (rows, 384), one a row of ``rows``.
        seed_vectors: (seed texts, 384), in the order of ``seed_texts(task)``.

    Raises:
        NotEnoughLabelsError: fewer than two labels in training, or nothing held out.
    """
    answers = rows["label"].replace_strict({label: i for i, label in enumerate(task.labels)}, return_dtype=pl.Int64).to_numpy()
    texts, is_val = rows["text"].to_list(), (rows["split"] == "val").to_numpy()
    if len(np.unique(answers[~is_val])) < 2 or not is_val.any():
        raise NotEnoughLabelsError(
            f"task {task.name}: {(~is_val).sum()} training rows over {len(np.unique(answers[~is_val]))} labels and "
            f"{is_val.sum()} held-out rows; it needs two labels in training and held-out rows"
        )
    order = np.random.default_rng(0).permutation(np.flatnonzero(~is_val))
    held = max(int(len(order) * CALIBRATION_SHARE), 1)
    tuning, fitting = order[:held], order[held:]
    seeds, seed_answers = seed_texts(task)

    def head(index: npt.NDArray[np.int64], strength: float) -> LinearHead:
        every = np.concatenate([answers[index], seed_answers])
        weights = _weights(every, np.concatenate([np.ones(len(index)), np.full(len(seeds), SEED_WEIGHT)]))
        together = np.concatenate([vectors[index], seed_vectors])
        return fit(task.labels, together, [*(texts[i] for i in index), *seeds], every, weights, strength)

    tried = [(strength, head(fitting, strength)) for strength in STRENGTHS]
    tuning_texts = [texts[i] for i in tuning]
    logits = [one.logits(vectors[tuning], tuning_texts) for _, one in tried]
    figures = [evaluate(softmax(found), answers[tuning], task.labels)[task.metric] for found in logits]
    best = int(np.argmax(figures))
    fitted = tried[best][1]
    calibrated = LinearHead(
        fitted.labels,
        fitted.vector_weights,
        fitted.ngram_weights,
        fitted.bias,
        _temperature(logits[best], answers[tuning]),
    )
    scores = calibrated.scores(vectors[is_val], [text for text, val in zip(texts, is_val, strict=True) if val])
    return Trained(
        head=calibrated,
        metrics=evaluate(scores, answers[is_val], task.labels),
        rows={"train": int((~is_val).sum()), "val": int(is_val.sum()), "seeds": len(seeds)},
        strength=tried[best][0],
    )


def seed_texts(task: Task) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return a task's seed texts and the index of the label that each describes."""
    pairs = [(text, index) for index, label in enumerate(task.labels) for text in task.seeds.get(label, ())]
    return [text for text, _ in pairs], np.array([index for _, index in pairs], np.int64)


def _weights(answers: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weight rows so that a label counts with the square root of its rows, and the mean weight is one."""
    totals = np.bincount(answers, weights)
    balanced = weights / np.sqrt(totals[answers])
    return balanced * (len(balanced) / balanced.sum())


def _temperature(logits: npt.NDArray[np.float64], answers: npt.NDArray[np.int64]) -> float:
    """Return the temperature of least log loss (Guo et al. 2017), on a grid fine enough for a probability."""
    grid = np.geomspace(0.2, 5.0, 81)
    rows = np.arange(len(answers))
    losses = [-np.log(np.maximum(softmax(logits / t)[rows, answers], 1e-12)).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])
