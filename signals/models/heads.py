"""A task's model: one linear layer over a text's vector and n-grams, with calibrated probabilities.

Its files are data: ``model.json`` and ``weights.safetensors``; nothing is ever unpickled.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from signals.models.finer import FinerLabels

FAMILY = "linear-head"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LinearHead:
    """A trained head.

    Attributes:
        labels: answers, in the order of the columns of a score.
        vector_weights: float32, (384, labels).
        ngram_weights: float32, (n-gram features, labels).
        bias: float32, (labels,).
        temperature: what the logits are divided by, so that a probability is a frequency.
        sure_from: confidence below which its answer is left out.
        languages: those that it was measured on (ISO 639-1); a text of another gets no answer.
        screen_weights: float32, (n-gram features, labels), of a head without vectors, which finds the passages of a
            long page that are worth encoding; None if long pages are judged by their lead.
        screen_bias: float32, (labels,), of that head.
        finer: labels below its own; None if there are none.
    """

    labels: tuple[str, ...]
    vector_weights: Floats
    ngram_weights: Floats
    bias: Floats
    temperature: float = 1.0
    sure_from: float = 0.0
    languages: tuple[str, ...] = ("en",)
    screen_weights: Floats | None = None
    screen_bias: Floats | None = None
    finer: FinerLabels | None = None

    def logits(self, vectors: Floats, grams: Any) -> npt.NDArray[np.float64]:
        """Return uncalibrated scores, (texts, labels): the same for a text whatever its batch mates.

        Args:
            vectors: float32, (texts, 384).
            grams: the same texts' ``ngrams``.

        Each vector is multiplied alone: a matrix product may add in another order for another batch size.
        """
        from_vectors = np.stack([vector @ self.vector_weights for vector in vectors]) if len(vectors) else 0.0
        sums = from_vectors + grams @ self.ngram_weights + self.bias
        return np.asarray(sums, np.float64).reshape(len(vectors), len(self.labels))

    def scores(self, vectors: Floats, grams: Any) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities, (texts, labels), each row summing to one."""
        return softmax(self.logits(vectors, grams) / self.temperature)

    def screened(self, grams: Any) -> npt.NDArray[np.float64]:
        """Return probabilities by n-grams alone, (texts, labels)."""
        return softmax(np.asarray(grams @ self.screen_weights + self.screen_bias, np.float64))

    def save(self, directory: Path, **record: Any) -> None:
        """Write the model's files; ``record`` (task, transform_id, …) is kept beside them as JSON."""
        from safetensors.numpy import save_file

        weights = {"vector": self.vector_weights, "ngram": self.ngram_weights, "bias": self.bias}
        if self.screen_weights is not None and self.screen_bias is not None:
            weights |= {"screen": self.screen_weights, "screen_bias": self.screen_bias}
        described = {"family": FAMILY, "labels": list(self.labels), **record}
        described |= {"temperature": self.temperature, "sure_from": self.sure_from, "languages": self.languages}
        if self.finer is not None:
            weights["finer"] = self.finer.vectors
            described["finer"] = self.finer.described()
        save_file(
            {name: np.ascontiguousarray(value) for name, value in weights.items()},
            directory / "weights.safetensors",
        )
        (directory / "model.json").write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")


def load_head(directory: Path) -> LinearHead:
    """Read what ``LinearHead.save`` wrote."""
    from safetensors.numpy import load_file

    described = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    weights = load_file(directory / "weights.safetensors")
    finer = described.get("finer")
    return LinearHead(
        finer=FinerLabels.read(finer, weights["finer"]) if finer else None,
        labels=tuple(described["labels"]),
        vector_weights=weights["vector"],
        ngram_weights=weights["ngram"],
        bias=weights["bias"],
        temperature=float(described["temperature"]),
        sure_from=float(described["sure_from"]),
        languages=tuple(described["languages"]),
        screen_weights=weights.get("screen"),
        screen_bias=weights.get("screen_bias"),
    )


def directory_digest(directory: Path) -> str:
    """Return the SHA-256 over names and contents of a model's files, in order of their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return rows of probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
