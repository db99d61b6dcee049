"""Documents to decisions, encoding included: the one bulk function that batch, stream, Spark and API call."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from signals.documents import images
from signals.documents.text import document_texts
from signals.models import heads
from signals.models.ngrams import ngrams
from signals.models.transform import require_same
from signals.splits import in_share
from signals.tasks import TASKS, Task
from signals.traffic import Traffic, arm

TEXT = pa.large_string()
# What may be asked about. Pages have ``title`` and ``text``, messages ``text``, images ``body``. ``vector`` is that of
# the text where it is known already; what has none is encoded.
DOCUMENT = pa.schema(
    [
        ("document_id", TEXT),
        ("kind", TEXT),
        ("tenant_id", TEXT),
        ("content_hash", TEXT),
        ("title", TEXT),
        ("text", TEXT),
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
        ("model_name", TEXT),
        ("model_version", pa.int64()),
        ("model_digest", TEXT),
        ("transform_id", TEXT),
        ("traffic_arm", TEXT),
        ("event_date", pa.date32()),
    ]
)
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
    scorer: heads.LinearHead | images.OpenNsfw


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
    scorer: heads.LinearHead | images.OpenNsfw
    if described["family"] == heads.FAMILY:
        scorer = heads.load_head(directory)
    elif described["family"] == images.FAMILY:
        scorer = images.OpenNsfw(directory, tuple(described["labels"]))
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
            read = _read(batch, encoder)
            for model, share in asked:
                rows, seen = (batch, read) if share == 1 else _shared(batch, read, share)
                if rows.num_rows:
                    yield _decisions(rows, model, model.scorer.scores(*seen), models.traffic)


def _read(batch: pa.RecordBatch, encoder: Encoder) -> tuple[Any, ...]:
    """Return what a model of a kind of document is given, made once for all tasks."""
    if batch["kind"][0].as_py() == "image":
        return (batch["body"].to_pylist(),)
    texts = document_texts(batch["title"].to_pylist(), batch["text"].to_pylist())
    known = batch["vector"]
    if not known.null_count:
        return known.flatten().to_numpy().reshape(batch.num_rows, -1), ngrams(texts)
    there = known.is_valid().to_numpy(zero_copy_only=False)
    encoded = encoder.encode([text for text, has in zip(texts, there, strict=True) if not has])
    vectors = np.empty((batch.num_rows, encoded.shape[1]), np.float32)
    vectors[~there] = encoded
    if there.any():
        vectors[there] = known.drop_null().flatten().to_numpy().reshape(-1, encoded.shape[1])
    return vectors, ngrams(texts)


def _shared(batch: pa.RecordBatch, read: tuple[Any, ...], share: float) -> tuple[pa.RecordBatch, tuple[Any, ...]]:
    """Return a share of the documents, and what a model is given of them."""
    chosen = pl.DataFrame(batch.select(["content_hash"])).select(in_share(share)).to_series().arg_true().to_numpy()
    parts = ([part[row] for row in chosen] if isinstance(part, list) else part[chosen] for part in read)
    return batch.take(pa.array(chosen)), tuple(parts)


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


def _decisions(
    batch: pa.RecordBatch, model: Model, found: npt.NDArray[np.float64], traffic: Mapping[str, Traffic]
) -> pa.RecordBatch:
    task, labels, rows = model.task, model.task.labels, batch.num_rows
    found = found.round(DIGITS)
    best = found.argmax(axis=1)
    documents = zip(*(batch[name].to_pylist() for name in ASKED_ABOUT), strict=True)
    scores = pa.LargeListArray.from_arrays(
        np.arange(rows + 1) * len(labels),
        pa.StructArray.from_arrays([pa.array(list(labels) * rows, TEXT), pa.array(found.ravel())], fields=list(SCORE)),
    )
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
        "label": [labels[i] for i in best],
        "score": found[np.arange(rows), best],
        "scores": scores,
    }
    keys = pl.DataFrame(pa.table({name: columns[name] for name in ("task", "content_hash", "model_version")}))
    columns["traffic_arm"] = keys.select(arm(traffic)).to_series().to_arrow().cast(TEXT)
    return pa.RecordBatch.from_pydict(columns, schema=DECISION)
