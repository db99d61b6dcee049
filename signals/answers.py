"""What one model answers about a batch of documents: what is made of them is made once for all models."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from signals.documents.passages import lead
from signals.documents.text import document_texts
from signals.models.abstention import confidence
from signals.models.heads import LinearHead
from signals.models.ngrams import ngrams
from signals.models.page_reading import Evidence, PageReading, telling_words
from signals.models.pictures import PictureModels
from signals.tasks import Task

Rows = npt.NDArray[np.int64]
Scorer = LinearHead | PictureModels
# Why a task has no answer: no text, one in a language that its model has not been measured on, or a model that is less
# sure than it has to be. The last has scores all the same.
NO_TEXT, LANGUAGE, NOT_SURE = "no_text", "language", "not_sure"
# A document is of a topic from this probability on.
TOPIC_FROM = 0.2
# Labels that are less likely need no evidence.
EXPLAINED_FROM = 0.2
# Beyond the sixth digit a probability says nothing, and rounded scores compare and compress.
DIGITS = 6


class Encoder(Protocol):
    """Makes vectors of texts."""

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector a text, (len(texts), dimensions)."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a model answers, a row a document.

    Attributes:
        scores: (documents, labels), rounded.
        abstentions: why there is no answer; None where there is one.
        evidence: rows of ``classify.EVIDENCE``.
        topics: rows of ``classify.TOPIC``.
    """

    scores: npt.NDArray[np.float64]
    abstentions: list[str | None]
    evidence: list[list[dict[str, Any]]]
    topics: list[list[dict[str, Any]]]


class PictureBatch:
    """A batch of pictures, as models are given them."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._bodies = batch["body"].to_pylist()

    def answers(self, task: Task, scorer: Scorer, rows: Rows) -> Answers:  # noqa: ARG002 - as of texts
        """Return what a model answers about some of the pictures."""
        assert isinstance(scorer, PictureModels)  # noqa: S101 - the family of every model of pictures
        scores = scorer.scores([self._bodies[row] for row in rows]).round(DIGITS)
        return Answers(scores, [None] * len(rows), [[]] * len(rows), [[]] * len(rows))


class TextBatch:
    """A batch of texts, as models are given them: what is made of them is made once for all models."""

    def __init__(self, batch: pa.RecordBatch, encoder: Encoder) -> None:
        self._texts = document_texts(batch["title"].to_pylist(), batch["text"].to_pylist())
        self._languages = batch["language"].to_pylist()
        self._encoder = encoder
        self._vectors = _vectors(batch, self._texts, encoder)
        self._grams = ngrams(self._texts)
        self._reads_pages = batch["kind"][0].as_py() == "page"

    @cached_property
    def _pages(self) -> PageReading:
        return PageReading(self._texts)

    def answers(self, task: Task, head: Scorer, rows: Rows) -> Answers:
        """Return what a model answers about some of the texts."""
        assert isinstance(head, LinearHead)  # noqa: S101 - the family of every model that reads texts
        every, carried = head.scores(self._vectors, self._grams), dict[tuple[int, int], Evidence]()
        if self._reads_pages and task.nothing_index is not None and head.screen_weights is not None:
            every, carried = self._pages.worst(head, every, task.nothing_index, self._encoder.encode)
        scores = every[rows].round(DIGITS)
        sure = confidence(scores, task.nothing_index) >= head.sure_from
        abstentions = [
            self._abstention(head, row) or (None if of else NOT_SURE) for row, of in zip(rows, sure, strict=True)
        ]
        evidence = [
            self._evidence(task, head, row, scores[place], carried) if task.explained and is_scored(abstained) else []
            for place, (row, abstained) in enumerate(zip(rows, abstentions, strict=True))
        ]
        topics = [
            self._topics(task, head, row, scores[place]) if task.several and not abstentions[place] else []
            for place, row in enumerate(rows)
        ]
        return Answers(scores, abstentions, evidence, topics)

    def _topics(self, task: Task, head: LinearHead, row: int, scores: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
        found, finer = [], head.finer
        for column in np.flatnonzero(scores >= TOPIC_FROM):
            label, score = task.labels[column], float(scores[column])
            found.append({"id": label, "path": task.names.get(label, label), "tier": 1, "score": score})
            if finer is None:
                continue
            for place, share in finer.below(label, self._vectors[row]):
                path, finer_score = finer.paths[place], round(score * share, DIGITS)
                if finer_score < TOPIC_FROM:
                    break
                tier = path.count(" > ") + 1
                found.append({"id": finer.labels[place], "path": path, "tier": tier, "score": finer_score})
        return sorted(found, key=lambda topic: (-topic["score"], topic["tier"]))

    def _abstention(self, head: LinearHead, row: int) -> str | None:
        if not self._texts[row].strip():
            return NO_TEXT
        language = self._languages[row]
        return None if language is None or language in head.languages else LANGUAGE

    def _evidence(
        self,
        task: Task,
        head: LinearHead,
        row: int,
        scores: npt.NDArray[np.float64],
        carried: Mapping[tuple[int, int], Evidence],
    ) -> list[dict[str, Any]]:
        nothing, found = task.nothing_index, []
        for column in np.flatnonzero(scores >= EXPLAINED_FROM):
            if column == nothing:
                continue
            one = carried.get((row, int(column))) or Evidence(lead(self._texts[row]), None)
            text = self._texts[row][one.passage.start : one.passage.end]
            found.append(
                {
                    "label": task.labels[column],
                    "score": float(scores[column]),
                    "start": one.passage.start,
                    "end": one.passage.end,
                    "share": None if one.share is None else round(one.share, 4),
                    "words": telling_words(head, text, int(column), nothing),
                }
            )
        return found


def is_scored(abstention: str | None) -> bool:
    """Say whether a decision has scores, given why it has no answer."""
    return abstention in (None, NOT_SURE)


def _vectors(batch: pa.RecordBatch, texts: list[str], encoder: Encoder) -> npt.NDArray[np.float32]:
    """Return the vectors of texts, (texts, dimensions): those that are known, and the others encoded."""
    known = batch["vector"]
    if not known.null_count:
        return known.flatten().to_numpy().reshape(batch.num_rows, -1)
    there = known.is_valid().to_numpy(zero_copy_only=False)
    encoded = encoder.encode([text for text, has in zip(texts, there, strict=True) if not has])
    vectors = np.empty((batch.num_rows, encoded.shape[1]), np.float32)
    vectors[~there] = encoded
    if there.any():
        vectors[there] = known.drop_null().flatten().to_numpy().reshape(-1, encoded.shape[1])
    return vectors
