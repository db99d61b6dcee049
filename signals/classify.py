"""Documents to decisions, encoding included: the one bulk function that batch, stream, Spark and API call."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from signals.documents.passages import lead
from signals.documents.text import document_texts
from signals.models import heads, pictures
from signals.models.abstention import confidence
from signals.models.ngrams import ngrams
from signals.models.page_reading import Evidence, PageReading, telling_words
from signals.models.transform import require_same
from signals.splits import in_share
from signals.tasks import TASKS, Task
from signals.traffic import Traffic, arm

TEXT = pa.large_string()
Rows = npt.NDArray[np.int64]
# What may be asked about. Pages have ``title`` and ``text``, messages ``text``, images ``body``. ``language`` is null
# where the text does not show it. ``vector`` is that of the text where it is known already; what has none is encoded.
DOCUMENT = pa.schema(
    [
        ("document_id", TEXT),
        ("kind", TEXT),
        ("tenant_id", TEXT),
        ("content_hash", TEXT),
        ("title", TEXT),
        ("text", TEXT),
        ("language", TEXT),
        ("vector", pa.large_list(pa.float32())),
        ("body", pa.large_binary()),
        ("event_date", pa.date32()),
    ]
)
# What names the content of a document: two organisations may well hold the same page.
DOCUMENT_KEY = ("tenant_id", "document_id", "content_hash")
# What is asked about: each day on which a document is seen, its content is decided anew.
ASKED_ABOUT = (*DOCUMENT_KEY, "event_date")
SCORE = pa.struct([("label", TEXT), ("score", pa.float64())])
EVIDENCE = pa.struct(
    [
        ("label", TEXT),
        ("score", pa.float64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("share", pa.float64()),
        ("words", pa.large_list(TEXT)),
    ]
)
TOPIC = pa.struct([("id", TEXT), ("path", TEXT), ("tier", pa.int64()), ("score", pa.float64())])
# Why a task has no answer: no text, one in a language that its model has not been measured on, or a model that is less
# sure than it has to be. The last has scores all the same.
NO_TEXT, LANGUAGE, NOT_SURE = "no_text", "language", "not_sure"
# A decision without an answer says why in ``abstention``. ``evidence`` is what carried its labels: characters of what
# ``document_text`` returns, the share of passages that carry a label, and the words that speak most for it. ``topics``
# are the labels of a task that may have several, and finer ones below them, likeliest first.
DECISION = pa.schema(
    [
        ("decision_id", TEXT),
        ("document_id", TEXT),
        ("kind", TEXT),
        ("tenant_id", TEXT),
        ("content_hash", TEXT),
        ("task", TEXT),
        ("label", TEXT),
        ("score", pa.float64()),
        ("scores", pa.large_list(SCORE)),
        ("abstention", TEXT),
        ("evidence", pa.large_list(EVIDENCE)),
        ("topics", pa.large_list(TOPIC)),
        ("model_name", TEXT),
        ("model_version", pa.int64()),
        ("model_digest", TEXT),
        ("transform_id", TEXT),
        ("traffic_arm", TEXT),
        ("event_date", pa.date32()),
    ]
)
# A document is of a topic from this probability on.
TOPIC_FROM = 0.2
# Labels that are less likely need no evidence.
EXPLAINED_FROM = 0.2
# Beyond the sixth digit a probability says nothing, and rounded scores compare and compress.
DIGITS = 6


@dataclass(frozen=True)
class Model:
    """A registered model, ready to score under one transformation."""

    task: Task
    name: str
    version: int
    digest: str
    transform_id: str
    scorer: heads.LinearHead | pictures.PictureModels


@dataclass(frozen=True)
class Models:
    """The models that are asked, ready to score.

    Attributes:
        traffic: which versions answer each task that has a champion.
        champions: by the task's name.
        challengers: of the tasks that have one.
    """

    traffic: Mapping[str, Traffic]
    champions: Mapping[str, Model]
    challengers: Mapping[str, Model] = field(default_factory=dict)

    def asked(self) -> Iterator[tuple[Model, float]]:
        """Yield each model, and the share of documents that it is asked about; a shadow is asked about all."""
        yield from ((model, 1.0) for model in self.champions.values())
        yield from ((model, self.traffic[task].share or 1.0) for task, model in self.challengers.items())


class Encoder(Protocol):
    """Makes vectors of texts."""

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector a text, (len(texts), dimensions)."""
        ...


def load_model(directory: Path, name: str, version: int, digest: str, running: str) -> Model:
    """Read a model's files.

    Args:
        directory: where ``model.json`` is.
        name: registered name.
        version: registered version.
        digest: of the files.
        running: the running transform_id.

    Raises:
        TransformMismatchError: the model was trained under another transformation.
        ValueError: the files are of a family that is not known here.
    """
    described = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    require_same(f"{name} version {version}", described["transform_id"], running)
    scorer: heads.LinearHead | pictures.PictureModels
    if described["family"] == heads.FAMILY:
        scorer = heads.load_head(directory)
    elif described["family"] == pictures.FAMILY:
        scorer = pictures.PictureModels(directory, tuple(described["labels"]))
    else:
        raise ValueError(f"model {name} version {version} is of unknown family {described['family']!r}")
    return Model(TASKS[described["task"]], name, version, digest, described["transform_id"], scorer)


def classify(batches: Iterable[pa.RecordBatch], models: Models, encoder: Encoder) -> Iterator[pa.RecordBatch]:
    """Answer every task that applies to each document.

    Args:
        batches: batches of schema ``DOCUMENT``, each of one kind.
        models: those that are asked.
        encoder: encodes texts whose vector is not known.

    Yields:
        Batches of schema ``DECISION``: for each batch one a model, its rows in the order of the documents.
    """
    for batch in batches:
        kind = batch["kind"][0].as_py() if batch.num_rows else None
        asked = [(model, share) for model, share in models.asked() if kind in model.task.documents]
        if asked:
            reading = _Pictures(batch) if kind == "image" else _Texts(batch, encoder)
            for model, share in asked:
                rows = _chosen(batch, share)
                if len(rows):
                    yield _decisions(batch.take(pa.array(rows)), model, reading.answers(model, rows), models.traffic)


@dataclass(frozen=True)
class Answers:
    """What a model answers, a row a document.

    Attributes:
        scores: (documents, labels), rounded.
        abstentions: why there is no answer; None where there is one.
        evidence: rows of ``EVIDENCE``.
        topics: rows of ``TOPIC``.
    """

    scores: npt.NDArray[np.float64]
    abstentions: list[str | None]
    evidence: list[list[dict[str, Any]]]
    topics: list[list[dict[str, Any]]]


class _Pictures:
    """A batch of pictures, as models are given them."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._bodies = batch["body"].to_pylist()

    def answers(self, model: Model, rows: Rows) -> Answers:
        assert isinstance(model.scorer, pictures.PictureModels)  # noqa: S101 - the family of every model of pictures
        scores = model.scorer.scores([self._bodies[row] for row in rows]).round(DIGITS)
        return Answers(scores, [None] * len(rows), [[]] * len(rows), [[]] * len(rows))


class _Texts:
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

    def answers(self, model: Model, rows: Rows) -> Answers:
        task, head = model.task, model.scorer
        assert isinstance(head, heads.LinearHead)  # noqa: S101 - the family of every model that reads texts
        every, carried = head.scores(self._vectors, self._grams), dict[tuple[int, int], Evidence]()
        if self._reads_pages and task.nothing_index is not None and head.screen_weights is not None:
            every, carried = self._pages.worst(head, every, task.nothing_index, self._encoder.encode)
        scores = every[rows].round(DIGITS)
        sure = confidence(scores, task.nothing_index) >= head.sure_from
        abstentions = [
            self._abstention(head, row) or (None if of else NOT_SURE) for row, of in zip(rows, sure, strict=True)
        ]
        evidence = [
            self._evidence(task, head, row, scores[place], carried) if task.explained and _scored(abstained) else []
            for place, (row, abstained) in enumerate(zip(rows, abstentions, strict=True))
        ]
        topics = [
            self._topics(task, head, row, scores[place]) if task.several and not abstentions[place] else []
            for place, row in enumerate(rows)
        ]
        return Answers(scores, abstentions, evidence, topics)

    def _topics(
        self, task: Task, head: heads.LinearHead, row: int, scores: npt.NDArray[np.float64]
    ) -> list[dict[str, Any]]:
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

    def _abstention(self, head: heads.LinearHead, row: int) -> str | None:
        if not self._texts[row].strip():
            return NO_TEXT
        language = self._languages[row]
        return None if language is None or language in head.languages else LANGUAGE

    def _evidence(
        self,
        task: Task,
        head: heads.LinearHead,
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


def _scored(abstention: str | None) -> bool:
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


def _chosen(batch: pa.RecordBatch, share: float) -> Rows:
    """Return the rows of a share of the documents."""
    if share == 1:
        return np.arange(batch.num_rows)
    chosen = pl.DataFrame(batch.select(["content_hash"])).select(in_share(share)).to_series()
    return chosen.arg_true().to_numpy().astype(np.int64)


def decision_id(document: Sequence[object], task: str, model_name: str, model_version: int) -> str:
    """Return the name of a decision: the same question about the same content and day to the same model is one.

    Args:
        document: its values of ``ASKED_ABOUT``.
        task: the question.
        model_name: of the model that is asked.
        model_version: its version.
    """
    about = ("" if part is None else str(part) for part in document)
    key = "\x1f".join((*about, task, model_name, str(model_version)))
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]


def _decisions(batch: pa.RecordBatch, model: Model, answers: Answers, traffic: Mapping[str, Traffic]) -> pa.RecordBatch:
    task, labels, rows = model.task, model.task.labels, batch.num_rows
    scored = np.array([_scored(reason) for reason in answers.abstentions])
    best = answers.scores.argmax(axis=1)
    documents = zip(*(batch[name].to_pylist() for name in ASKED_ABOUT), strict=True)
    values = pa.StructArray.from_arrays(
        [pa.array(list(labels) * int(scored.sum()), TEXT), pa.array(answers.scores[scored].ravel())],
        fields=list(SCORE),
    )
    offsets = np.concatenate([[0], np.cumsum(scored * len(labels))])
    constant = {
        "task": task.name,
        "model_name": model.name,
        "model_version": model.version,
        "model_digest": model.digest,
        "transform_id": model.transform_id,
    }
    columns = {
        **{name: batch[name] for name in batch.schema.names if name in DECISION.names},
        **{name: pa.repeat(pa.scalar(value, DECISION.field(name).type), rows) for name, value in constant.items()},
        "decision_id": [decision_id(document, task.name, model.name, model.version) for document in documents],
        "label": [None if why else labels[column] for column, why in zip(best, answers.abstentions, strict=True)],
        "score": pa.array(answers.scores[np.arange(rows), best], mask=~scored),
        "scores": pa.LargeListArray.from_arrays(offsets, values),
        "abstention": answers.abstentions,
        "evidence": answers.evidence,
        "topics": answers.topics,
    }
    keys = pl.DataFrame(pa.table({name: columns[name] for name in ("task", "content_hash", "model_version")}))
    columns["traffic_arm"] = keys.select(arm(traffic)).to_series().to_arrow().cast(TEXT)
    return pa.RecordBatch.from_pydict(columns, schema=DECISION)
