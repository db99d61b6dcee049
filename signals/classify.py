"""Documents to decisions, encoding included: the one bulk function that batch, stream, Spark and API call."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from signals.answers import Answers, Encoder, PictureBatch, Rows, Scorer, TextBatch, is_scored
from signals.models import heads, pictures
from signals.models.transform import require_same
from signals.splits import in_share
from signals.tasks import TASKS, Task
from signals.traffic import Traffic, arms

TEXT = pa.large_string()
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


@dataclass(frozen=True)
class Model:
    """A registered model, ready to score under one transformation."""

    task: Task
    name: str
    version: int
    digest: str
    transform_id: str
    scorer: Scorer


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
    scorer: Scorer
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
            documents = PictureBatch(batch) if kind == "image" else TextBatch(batch, encoder)
            for model, share in asked:
                rows = _chosen(batch, share)
                if len(rows):
                    yield _decisions(
                        batch.take(pa.array(rows)),
                        model,
                        documents.answers(model.task, model.scorer, rows),
                        models.traffic[model.task.name],
                    )


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


def _decisions(batch: pa.RecordBatch, model: Model, answers: Answers, traffic: Traffic) -> pa.RecordBatch:
    task, labels, rows = model.task, model.task.labels, batch.num_rows
    scored = np.array([is_scored(reason) for reason in answers.abstentions])
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
        "traffic_arm": arms(traffic, model.version, batch["content_hash"].to_pylist()),
    }
    return pa.RecordBatch.from_pydict(columns, schema=DECISION)
