"""Documents to decisions: the one bulk function that batch, stream, Spark and API call."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from signals import heads, images
from signals.ngrams import ngrams
from signals.tasks import TASKS, Task
from signals.transform import require_same

TEXT = pa.large_string()
# What may be scored: ``text`` and ``vector`` for pages and messages, ``body`` for images.
DOCUMENT = pa.schema(
    [
        ("document_id", TEXT),
        ("kind", TEXT),
        ("tenant_id", TEXT),
        ("content_hash", TEXT),
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


def score(batches: Iterable[pa.RecordBatch], models: Mapping[str, Model]) -> Iterator[pa.RecordBatch]:
    """Answer every task that applies to each document.

    Args:
        batches: batches of schema ``DOCUMENT``, each of one kind.
        models: champion of each task, by the task's name.

    Yields:
        Batches of schema ``DECISION``: for each batch one a task, its rows in the order of the documents.
    """
    for batch in batches:
        if not batch.num_rows:
            continue
        kind = batch["kind"][0].as_py()
        asked = [model for model in models.values() if kind in model.task.documents]
        if asked:
            seen = _seen(batch, kind)
            yield from (_decision(batch, model, model.scorer.scores(*seen)) for model in asked)


def _seen(batch: pa.RecordBatch, kind: str) -> tuple[Any, ...]:
    """Return what a model of a kind of document is given, made once for all tasks."""
    if kind == "image":
        return (batch["body"].to_pylist(),)
    return batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1), ngrams(batch["text"].to_pylist())


def scorer(models: Mapping[str, Model]) -> Any:
    """Return ``score`` with its models bound: a function from batches to batches."""
    return partial(score, models=models)


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


def _decision(batch: pa.RecordBatch, model: Model, found: npt.NDArray[np.float64]) -> pa.RecordBatch:
    found = found.round(DIGITS)
    best = found.argmax(axis=1)
    labels, rows = model.task.labels, batch.num_rows
    documents = zip(*(batch[name].to_pylist() for name in ASKED_ABOUT), strict=True)
    ids = [decision_id(document, model.task.name, model.name, model.version) for document in documents]
    scores = pa.LargeListArray.from_arrays(
        np.arange(rows + 1) * len(labels),
        pa.StructArray.from_arrays([pa.array(list(labels) * rows, TEXT), pa.array(found.ravel())], fields=list(SCORE)),
    )

    def constant(value: Any, kind: pa.DataType = TEXT) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), rows)

    return pa.RecordBatch.from_arrays(
        [
            pa.array(ids, TEXT),
            *(batch[name] for name in ("document_id", "kind", "tenant_id", "content_hash")),
            constant(model.task.name),
            pa.array([labels[i] for i in best], TEXT),
            pa.array(found[np.arange(rows), best]),
            scores,
            constant(model.name),
            constant(model.version, pa.int64()),
            constant(model.digest),
            constant(model.transform_id),
            batch["event_date"],
        ],
        schema=DECISION,
    )
