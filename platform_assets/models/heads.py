"""Training, judging and registering the model of a task, whatever the task."""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from governance.promotion import Verdict, gate
from platform_assets.conventions import FRESHNESS, table_key
from resources.encoder import Encoder
from resources.lakehouse import Lakehouse
from resources.registry import ModelMissingError, Registered, Registry
from signals.encoder import DIMENSIONS
from signals.heads import Floats, LinearHead
from signals.images import OpenNsfw, package
from signals.metrics import evaluate
from signals.ngrams import ngrams
from signals.tasks import Task
from signals.training import NotEnoughLabelsError, examples, seed_texts, train

TRAINED_FROM = ("silver/labels", "silver/embeddings")
PACKAGED_FROM = ("silver/labels", "silver/images")
GATE = "gate"


def model_asset(task: Task) -> dg.AssetsDefinition:
    """Return the asset whose materialisation trains a task, registers the model, and promotes it if it passes."""
    key = table_key(f"models/{task.name}")
    is_image = task.documents == ("image",)
    source = PACKAGED_FROM if is_image else TRAINED_FROM

    @dg.asset(
        key=key,
        deps=[table_key(table) for table in source],
        group_name="models",
        description=task_doc(task),
        owners=["team:ml"],
        kinds={"mlflow", "onnx"} if is_image else {"mlflow", "scikitlearn"},
        freshness_policy=FRESHNESS["models"],
        check_specs=[
            dg.AssetCheckSpec(GATE, asset=key, description="The model may serve: its held-out figures pass the gate.")
        ],
        pool="encoder",
    )
    def model(lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> dg.MaterializeResult:
        started = time.perf_counter()
        try:
            registered, verdict = renewed(task, lakehouse, encoder, registry.under(encoder.digest))
        except NotEnoughLabelsError as error:
            return _untrained(task, str(error))
        return _result(task, registered, verdict, time.perf_counter() - started)

    return model


def renewed(task: Task, lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> tuple[Registered, Verdict]:
    """Train a task's model under an encoder, register it, and make it champion there if it passes the gate.

    Raises:
        NotEnoughLabelsError: the labels do not suffice for a model that could be judged.
    """
    make, source = (packaged, PACKAGED_FROM) if task.documents == ("image",) else (trained, TRAINED_FROM)
    versions = {f"version:{table}": lakehouse.version(table) for table in source}
    with tempfile.TemporaryDirectory() as folder:
        metrics, record = make(task, lakehouse, encoder, Path(folder))
        record |= {**versions, "labels": labels_of(task, label_counts(lakehouse))}
        registered = registry.register(task.name, Path(folder), metrics, record)
    verdict = judged(task, registered, registry, lakehouse, encoder)
    if verdict.passed:
        registry.promote(task.name, registered.version, by="gate", why=verdict.why)
    return registered, verdict


def task_doc(task: Task) -> str:
    """Return what the UI says about a task's model."""
    asked = " and ".join(f"{kind}s" for kind in task.documents)
    return (
        f"The model of task {task.name}: {len(task.labels)} labels, asked of {asked}, judged by {task.metric} "
        f"(at least {task.floor:.2f}). One materialisation is one registered version; "
        "the gate decides whether it serves."
    )


def label_counts(lakehouse: Lakehouse) -> dict[str, int]:
    """Return how many labels each task has, declared or not."""
    return dict(lakehouse.scan("silver/labels").group_by("task").len().collect().iter_rows())


def labels_of(task: Task, counts: Mapping[str, int]) -> int:
    """Return how many labels teach a task: its own and those that it borrows."""
    return sum(counts.get(name, 0) for name in (task.name, *task.borrowed))


def trained(
    task: Task, lakehouse: Lakehouse, encoder: Encoder, folder: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Train a head from labels and cached vectors into a folder, and return its held-out figures and its record.

    Raises:
        NotEnoughLabelsError: the labels do not suffice for a model that could be judged.
    """
    rows = examples(task, lakehouse.read("silver/labels"))
    vectors = vectors_of(rows, lakehouse, encoder)
    seeds, _ = seed_texts(task)
    seed_vectors = encoder.encode(seeds) if seeds else np.zeros((0, vectors.shape[1]), np.float32)
    result = train(task, rows, vectors, seed_vectors)
    result.head.save(folder, task=task.name, transform_id=encoder.transform_id)
    record = {"transform_id": encoder.transform_id, "family": "linear-head", "strength": result.strength}
    return result.metrics, record | {f"rows_{name}": count for name, count in result.rows.items()}


def packaged(
    task: Task, lakehouse: Lakehouse, encoder: Encoder, folder: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Put the packaged image classifier into a folder, judge it on labelled pictures, and return figures and record.

    Raises:
        NotEnoughLabelsError: there is no labelled picture to judge it on.
    """
    package(folder, task.labels, task=task.name, transform_id=encoder.transform_id)
    pictures = labelled_pictures(task, lakehouse)
    if pictures.is_empty():
        raise NotEnoughLabelsError(f"task {task.name}: no labelled picture to judge the packaged classifier on")
    scores = OpenNsfw(folder, task.labels).scores(pictures["body"].to_list())
    answers = np.array([task.labels.index(label) for label in pictures["label"]])
    record = {
        "transform_id": encoder.transform_id,
        "family": "open-nsfw",
        "rows_train": 0,
        "rows_val": len(answers),
    }
    return evaluate(scores, answers, task.labels), record


def labelled_pictures(task: Task, lakehouse: Lakehouse) -> pl.DataFrame:
    """Return body and latest label of each distinct labelled picture."""
    labels = lakehouse.scan("silver/labels").filter(pl.col("task") == task.name)
    images = lakehouse.scan("silver/images").select("content_hash", "body").unique("content_hash")
    return (
        labels.join(images, on="content_hash")
        .sort("content_hash", "labelled_at", "label_id")
        .unique("content_hash", keep="last", maintain_order=True)
        .select("body", "label")
        .collect()
    )


def vectors_of(rows: pl.DataFrame, lakehouse: Lakehouse, encoder: Encoder) -> Floats:
    """Return the vectors of texts, (rows, 384), from silver/embeddings.

    Raises:
        MissingVectorsError: some have none under the running encoder.
    """
    wanted = rows["content_hash"].unique().implode()
    stored = lakehouse.scan("silver/embeddings").filter(
        pl.col("encoder_id") == encoder.encoder_id, pl.col("content_hash").is_in(wanted)
    )
    found = stored.select("content_hash", "vector").unique("content_hash").collect()
    missing = rows.join(found, on="content_hash", how="anti").unique("content_hash", maintain_order=True)
    if missing.height:
        raise MissingVectorsError(missing.height)
    joined = rows.join(found, on="content_hash", how="left", maintain_order="left")
    return joined["vector"].explode().to_numpy().reshape(rows.height, DIMENSIONS).astype(np.float32)


class MissingVectorsError(LookupError):
    """Labelled texts have no vector under the running encoder."""

    def __init__(self, missing: int) -> None:
        super().__init__(
            f"{missing} labelled texts have no vector: materialise silver/embeddings for the days of their labels"
        )


def judged(task: Task, challenger: Registered, registry: Registry, lakehouse: Lakehouse, encoder: Encoder) -> Verdict:
    """Return the gate's verdict on a challenger, the champion being measured on the same held-out rows."""
    try:
        champion = registry.champion(task.name)
    except ModelMissingError:
        return gate(task, challenger.metrics, None)
    if champion.transform_id != encoder.transform_id or task.documents == ("image",):
        return gate(
            task,
            challenger.metrics,
            None if champion.transform_id != encoder.transform_id else champion.metrics,
        )
    head = registry.load(champion, encoder.transform_id).scorer
    if not isinstance(head, LinearHead):
        return gate(task, challenger.metrics, champion.metrics)
    return gate(task, challenger.metrics, held_out_figures(task, head, lakehouse, encoder))


def held_out_figures(task: Task, head: LinearHead, lakehouse: Lakehouse, encoder: Encoder) -> dict[str, float]:
    """Return a model's figures on the task's held-out rows as they are now."""
    held_out = examples(task, lakehouse.read("silver/labels")).filter(pl.col("split") == "val")
    answers = np.array([task.labels.index(label) for label in held_out["label"]])
    vectors = vectors_of(held_out, lakehouse, encoder)
    return evaluate(head.scores(vectors, ngrams(held_out["text"].to_list())), answers, task.labels)


def _result(task: Task, registered: Registered, verdict: Verdict, seconds: float) -> dg.MaterializeResult:
    figures = {name: value for name, value in registered.metrics.items() if not name.startswith("f1_")}
    return dg.MaterializeResult(
        metadata={
            "version": registered.version,
            "champion": verdict.passed,
            "gate": verdict.why,
            "digest": registered.digest,
            "transform_id": registered.transform_id,
            "metric": task.metric,
            task.metric: registered.metrics.get(task.metric, float("nan")),
            **figures,
            "record": dg.MetadataValue.json(json.loads(json.dumps(registered.record, default=str))),
            "seconds": round(seconds, 3),
        },
        data_version=dg.DataVersion(registered.digest),
        check_results=[dg.AssetCheckResult(check_name=GATE, passed=verdict.passed, metadata={"why": verdict.why})],
    )


def _untrained(task: Task, why: str) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"champion": False, "gate": why},
        check_results=[
            dg.AssetCheckResult(
                check_name=GATE,
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"why": why, "task": task.name},
            )
        ],
    )
