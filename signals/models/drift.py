"""How unlike what trained a model is what it is asked: of vectors and of answers, each beside what chance may show.

A measure says nothing until it is compared with what samples of the same source, as small as these, differ by. So each
comes with that limit, and with the least that matters however large the samples are.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from signals.models.heads import Floats

# How often a measure of samples of one source passes its limit.
ALPHA = 0.01
# Under the packaged encoder, 150 texts have shifted by 0.15 where half of the news are another publisher’s, or a
# third of the tweets of another corpus, and by 0.27 to 0.40 where all are. The least divergence is Evidently’s.
LEAST_SHIFT, LEAST_DIVERGENCE = 0.15, 0.1
PARTINGS = 1_000
# So many digits of a unit vector's mean are more than a sample fixes.
DIGITS = 5


@dataclass(frozen=True)
class Reference:
    """What is kept of the rows that a model was trained and judged on.

    Attributes:
        rows: vectors that it was trained on.
        mean: (384,) of them; empty if there are none.
        spread: the trace of their covariance: their mean squared distance from the mean.
        roughness: the trace of the square of their covariance: the larger, the fewer directions hold the spread.
        answers: how often it gave each label on its held-out rows.
    """

    rows: int
    mean: tuple[float, ...]
    spread: float
    roughness: float
    answers: Mapping[str, int]

    def dump(self) -> str:
        """Return the reference as JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> "Reference":
        """Return the reference that ``dump`` wrote."""
        told = json.loads(text)
        return cls(**told | {"mean": tuple(told["mean"])})


def reference(vectors: Floats, answers: Mapping[str, int]) -> Reference:
    """Return what is kept of training vectors, (rows, 384), and of the answers on held-out rows."""
    if len(vectors) < 2:
        return Reference(0, (), 0.0, 0.0, answers)
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.cov(vectors, rowvar=False)
    spread, roughness = np.trace(covariance), np.square(covariance).sum()
    rounded = tuple(round(float(value), DIGITS) for value in mean)
    return Reference(len(vectors), rounded, round(float(spread), DIGITS), round(float(roughness), 2 * DIGITS), answers)


@dataclass(frozen=True)
class Measure:
    """How far two samples are apart, and how far they must be apart to have drifted: beyond chance, and to matter."""

    value: float
    limit: float

    @property
    def drifted(self) -> bool:
        """Whether the distance is beyond its limit."""
        return self.value > self.limit


def shift(vectors: Floats, trained: Reference) -> Measure:
    """Return how far the mean of vectors, (rows, 384), is from that of the training, as a share of its spread.

    It is the maximum mean discrepancy of a linear kernel (Gretton et al. 2012). Among rows of one source its square is
    a sum of squared normal numbers, whose quantile is that of the chi-squared variable with their mean and variance
    (Satterthwaite 1946); the covariance is the training's.
    """
    from scipy.special import chdtri

    apart = float(np.linalg.norm(vectors.mean(axis=0, dtype=np.float64) - np.array(trained.mean)))
    freedom = trained.spread**2 / trained.roughness
    chance = (1 / len(vectors) + 1 / trained.rows) * chdtri(freedom, ALPHA) / freedom
    return Measure(apart / trained.spread**0.5, max(float(chance**0.5), LEAST_SHIFT))


def divergence(found: Mapping[Any, int], before: Mapping[Any, int]) -> Measure:
    """Return the Jensen-Shannon distance of two samples, given as counts: 0 to 1; neither may be empty.

    Its limit is the quantile among partings of both together, by chance, into samples as large (a permutation test).
    """
    from scipy.special import entr

    kinds = sorted(found.keys() | before.keys())
    counts = np.array([[sample.get(kind, 0) for kind in kinds] for sample in (found, before)])
    pooled, size = counts.sum(axis=0), counts[0].sum()
    parted = np.random.default_rng(0).multivariate_hypergeometric(pooled, size, PARTINGS, method="marginals")
    # The samples themselves come first.
    ones = np.vstack([counts[:1], parted])
    one, other = (of / of.sum(axis=1, keepdims=True) for of in (ones, pooled - ones))
    bits = (entr((one + other) / 2) - (entr(one) + entr(other)) / 2).sum(axis=1) / np.log(2)
    apart = np.sqrt(np.maximum(bits, 0))  # which rounding may take below nothing
    return Measure(float(apart[0]), max(float(np.quantile(apart[1:], 1 - ALPHA)), LEAST_DIVERGENCE))
