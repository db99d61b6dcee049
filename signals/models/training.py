"""From labelled texts to a calibrated head and its held-out figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from signals.models.abstention import confidence, coverage_curve, right, sure_from
from signals.models.groups import taught
from signals.models.heads import Floats, LinearHead, softmax
from signals.models.metrics import evaluate
from signals.models.ngrams import ngrams
from signals.splits import calibrates
from signals.tasks import Task

# The strength is chosen by fits on at most this many rows. Where there are no more, they are cross-fitted, and their
# scores also calibrate; where there are, that takes a share of all rows, kept from the fit, and from the encoder's
# tuning too: it would have learned them by heart, and vectors of other texts are never as clear. Lent rows do not
# calibrate: they are of other texts than those that the task is asked of.
TUNING_ROWS = 1_500
FOLDS = 3
STRENGTHS = (0.3, 3.0)
SCREEN_STRENGTH = 3.0
TEMPERATURES = np.geomspace(0.2, 5.0, 81)
SEED_WEIGHT = 2.0
# Held-out rows of a language from which its figure counts.
LANGUAGE_ROWS = 50
# Name of that figure, before the language's code.
LANGUAGE = "language_"
# What sentences about groups of people count together, as a share of the rows.
GROUPS_SHARE = 0.15
# Up to here, factoring rows × rows is cheaper than fitting rows × columns.
ROTATED_BELOW = 2_000
JITTER = 1e-6
# Unit vectors have coordinates near 0.05, n-gram rows are sparse: the scale balances the two halves under one
# regularisation strength.
VECTOR_SCALE = 3.0

Indices = npt.NDArray[np.int64]


class NotEnoughLabelsError(ValueError):
    """A task has too few labelled rows, or no held-out ones, to make a model that could be judged."""


@dataclass(frozen=True)
class Trained:
    """A head, the figures of its held-out split, how often it gave each label there, and the rows behind all."""

    head: LinearHead
    metrics: dict[str, float]
    answers: dict[str, int]
    rows: dict[str, int]
    strength: float


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
    answers = (
        rows["label"]
        .replace_strict({label: i for i, label in enumerate(task.labels)}, return_dtype=pl.Int64)
        .to_numpy()
    )
    texts, is_val = rows["text"].to_list(), (rows["split"] == "val").to_numpy()
    if len(np.unique(answers[~is_val])) < 2 or not is_val.any():
        raise NotEnoughLabelsError(
            f"task {task.name}: {(~is_val).sum()} training rows over {len(np.unique(answers[~is_val]))} labels and "
            f"{is_val.sum()} held-out rows; it needs two labels in training and held-out rows"
        )
    train_rows = np.flatnonzero(~is_val)
    weights = np.where(rows["split"] == "auxiliary", task.auxiliary_weight, 1.0)
    rows_of = _Rows(task, vectors, ngrams(texts), answers, weights, seed_vectors)
    held, own = (rows.select(of).to_series().to_numpy() for of in (calibrates(), pl.col("split") == "train"))
    parts = train_rows, np.flatnonzero(~is_val & ~held), np.flatnonzero(own & held)
    fitted, strength = _fitted(rows_of, STRENGTHS, *parts)
    if task.nothing and "page" in task.documents:
        blind = replace(rows_of, vectors=vectors[:, :0], seed_vectors=seed_vectors[:, :0])
        screen, _ = _fitted(blind, [SCREEN_STRENGTH], *parts)
        weights, bias = (array / np.float32(screen.temperature) for array in (screen.ngram_weights, screen.bias))
        fitted = replace(fitted, screen_weights=weights, screen_bias=bias)
    scores = softmax(rows_of.logits(fitted, np.flatnonzero(is_val)) / fitted.temperature)
    by_language = language_metrics(task, scores, answers[is_val], rows.filter(pl.col("split") == "val")["language"])
    measured = tuple(code for code, value in by_language.items() if value >= task.floor)
    fitted = replace(fitted, languages=measured)
    sure, correct = confidence(scores, task.nothing_index), right(scores, answers[is_val], task.nothing_index)
    return Trained(
        head=fitted,
        metrics={
            **evaluate(scores, answers[is_val], task.labels),
            **coverage_curve(sure, correct, fitted.sure_from),
            **{f"{LANGUAGE}{code}": value for code, value in by_language.items()},
        },
        answers=answered(scores[sure >= fitted.sure_from], task),
        rows={"train": len(train_rows), "val": int(is_val.sum()), "seeds": len(seed_vectors)},
        strength=strength,
    )


def language_metrics(
    task: Task, scores: npt.NDArray[np.float64], y_true: Indices, languages: pl.Series
) -> dict[str, float]:
    """Return the task's metric in each language of enough held-out rows, and in the commonest one.

    Args:
        task: its labels and its metric.
        scores: (rows, labels).
        y_true: (rows,) index of the right label.
        languages: (rows,) code of the text's language; null where it shows none.
    """
    found = {}
    for code, rows in (
        languages.drop_nulls().value_counts(sort=True).sort("count", "language", descending=[True, False]).iter_rows()
    ):
        if rows >= LANGUAGE_ROWS or not found:
            chosen = (languages == code).fill_null(value=False).to_numpy()
            found[code] = evaluate(scores[chosen], y_true[chosen], task.labels)[task.metric]
    return found


def _fitted(
    rows: "_Rows", strengths: Sequence[float], train_rows: Indices, fitting: Indices, calibrating: Indices
) -> tuple[LinearHead, float]:
    """Return a calibrated head and its strength.

    Args:
        rows: of the task.
        strengths: those that are tried.
        train_rows: those that train.
        fitting: of these, those that are fitted where there are many.
        calibrating: those that calibrate then.
    """
    chance = np.random.default_rng(0)
    if len(train_rows) <= TUNING_ROWS:
        strength, tried, calibrating = _cross_fitted(chance.permutation(train_rows), rows, strengths)
        (head,) = rows.fit(train_rows, [strength])
    else:
        heads = rows.fit(np.sort(chance.permutation(fitting)[:TUNING_ROWS]), strengths)
        logits = [rows.logits(head, calibrating) for head in heads]
        strength = strengths[_best(logits, rows.answers[calibrating])]
        (head,) = rows.fit(fitting, [strength])
        tried = rows.logits(head, calibrating)
    answers, nothing = rows.answers[calibrating], rows.task.nothing_index
    temperature = _temperature(tried, answers)
    scores = softmax(tried / temperature)
    least = sure_from(confidence(scores, nothing), right(scores, answers, nothing), rows.task.precision)
    return replace(head, temperature=temperature, sure_from=least), strength


def answered(scores: npt.NDArray[np.float64], task: Task) -> dict[str, int]:
    """Return how often each label is the answer among scores, (rows, labels); without those that never are."""
    counts = np.bincount(scores.argmax(axis=1), minlength=len(task.labels))
    return {label: int(n) for label, n in zip(task.labels, counts, strict=True) if n}


@dataclass(frozen=True)
class _Rows:
    """A task's labelled rows as numbers, made once for all fits."""

    task: Task
    vectors: Floats
    grams: Any
    answers: Indices
    weights: npt.NDArray[np.float64]
    seed_vectors: Floats

    def fit(self, index: Indices, strengths: Sequence[float]) -> list[LinearHead]:
        """Fit a head of each strength on some rows and on the seeds."""
        from scipy.sparse import vstack

        seeds, described = seed_texts(self.task)
        every = np.concatenate([self.answers[index], described])
        weights = _weights(every, np.concatenate([self.weights[index], _seed_weights(self.task, len(index))]))
        vectors = np.concatenate([self.vectors[index], self.seed_vectors])
        return fit(self.task.labels, vectors, vstack([self.grams[index], ngrams(seeds)]), every, weights, strengths)

    def logits(self, head: LinearHead, index: Indices) -> npt.NDArray[np.float64]:
        return head.logits(self.vectors[index], self.grams[index])


def _cross_fitted(
    order: Indices, rows: _Rows, strengths: Sequence[float]
) -> tuple[float, npt.NDArray[np.float64], Indices]:
    """Return the strength that does best on rows which its fits did not see, its logits for them, and the rows."""
    parts = [np.sort(part) for part in np.array_split(order, FOLDS)]
    heads = [rows.fit(np.setdiff1d(order, part), strengths) for part in parts]
    asked = np.concatenate(parts)
    logits = [
        np.concatenate([rows.logits(fitted[i], part) for fitted, part in zip(heads, parts, strict=True)])
        for i in range(len(strengths))
    ]
    best = _best(logits, rows.answers[asked])
    return strengths[best], logits[best], asked


def _best(logits: Sequence[npt.NDArray[np.float64]], answers: Indices) -> int:
    """Return the place of the logits that, at their best temperature, have the least log loss.

    On the few rows that choose, the published metrics, which count each answer as right or wrong, are mostly noise.
    """
    return int(np.argmin([_losses(of, answers).min() for of in logits]))


def fit(
    labels: tuple[str, ...],
    vectors: Floats,
    grams: Any,
    answers: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    strengths: Sequence[float],
) -> list[LinearHead]:
    """Fit heads by multinomial logistic regression; deterministic for the same rows in the same order.

    Args:
        labels: all answers, also those without a row.
        vectors: (rows, 384) unit vectors.
        grams: the rows' ``ngrams``.
        answers: index into ``labels``, a row.
        weights: weight of a row.
        strengths: inverse regularisation (scikit-learn's ``C``), one a head.

    Raises:
        NotEnoughLabelsError: the rows are of fewer than two labels.
    """
    from scipy.linalg import solve_triangular
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(answers)) < 2:
        raise NotEnoughLabelsError("a part of the training rows is of one label alone; each part needs two labels")
    features = hstack([csr_matrix(vectors * VECTOR_SCALE), grams], format="csc", dtype=np.float32)
    # An n-gram of a single row teaches nothing about others, and most n-grams are of a single row.
    kept = np.flatnonzero(np.diff(features.indptr) > 1)
    columns = features[:, kept].tocsr()
    rotates = columns.shape[0] < min(columns.shape[1], ROTATED_BELOW)
    rows = _rotated(columns, int(np.searchsorted(kept, vectors.shape[1]))) if rotates else columns
    width, heads = vectors.shape[1], []
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=60, tol=1e-3).fit(rows, answers, sample_weight=weights)
        found = np.zeros((features.shape[1], len(labels)), np.float32)
        bias = np.full(len(labels), -20.0 if len(model.classes_) < len(labels) else 0.0, np.float32)
        coefficients, intercept = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            coefficients, intercept = (
                np.vstack([-coefficients, coefficients]) / 2,
                np.array([-1, 1]) * intercept / 2,
            )
        if rotates:
            coefficients = (columns.T @ solve_triangular(rows, coefficients.T, trans="T", lower=True)).T
        found[np.ix_(kept, model.classes_)] = coefficients.T
        bias[model.classes_] = intercept
        heads.append(LinearHead(labels, found[:width] * np.float32(VECTOR_SCALE), found[width:], bias))
    return heads


def _rotated(columns: Any, width: int) -> npt.NDArray[np.float64]:
    """Return rows in the space that they span: the Cholesky factor of their products.

    The first ``width`` columns are of vectors.

    With fewer rows than columns this is the same problem, penalty included (the representer theorem), with a
    hundredth of the unknowns.
    """
    # In single precision, the products of vectors that are much alike may be those of no real vectors.
    exact = columns.astype(np.float64)
    vectors, grams = exact[:, :width].toarray(), exact[:, width:]
    products = vectors @ vectors.T + (grams @ grams.T).toarray()
    # Rows that repeat one another span less than they are: too little to be seen is added to each.
    products[np.diag_indices_from(products)] += JITTER * np.diag(products).mean()
    return np.linalg.cholesky(products)


def seed_texts(task: Task) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the texts that train a task beside its rows, its seeds first, and the index of the label of each."""
    pairs = [(text, label) for label in task.labels for text in task.seeds.get(label, ())] + taught(task)
    return [text for text, _ in pairs], np.array([task.labels.index(label) for _, label in pairs], np.int64)


def _seed_weights(task: Task, rows: int) -> npt.NDArray[np.float64]:
    """Return the weight of each of ``seed_texts`` beside so many rows."""
    seeds, about_groups = sum(map(len, task.seeds.values())), len(taught(task))
    return np.repeat([SEED_WEIGHT, GROUPS_SHARE * rows / max(about_groups, 1)], [seeds, about_groups])


def _weights(answers: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weight rows so that a label counts with the square root of its rows, and the mean weight is one."""
    totals = np.bincount(answers, weights)
    balanced = weights / np.sqrt(totals[answers])
    return balanced * (len(balanced) / balanced.sum())


def _temperature(logits: npt.NDArray[np.float64], answers: npt.NDArray[np.int64]) -> float:
    """Return the temperature of least log loss (Guo et al. 2017), on a grid fine enough for a probability."""
    return float(TEMPERATURES[int(np.argmin(_losses(logits, answers)))])


def _losses(logits: npt.NDArray[np.float64], answers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the mean log loss at each temperature."""
    rows = np.arange(len(answers))
    return np.array([-np.log(np.maximum(softmax(logits / t)[rows, answers], 1e-12)).mean() for t in TEMPERATURES])
