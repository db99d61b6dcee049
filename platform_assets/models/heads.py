"""Training and registering the model of a task, whatever the task, and having it judged."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from governance.gates.promotion import Verdict
from platform_assets.models.evaluation import contested, serves
from platform_assets.models.labelled import label_counts, labelled_pictures, labels_of, vectors_of
from platform_assets.models.model_specs import check, model_spec, unmade
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.registry.versions import REFERENCE, ModelVersion
from resources.transform_comparisons import recorded_comparisons
from signals.documents.images import OpenNsfw, package
from signals.models.drift import reference
from signals.models.metrics import evaluate
from signals.models.training import NotEnoughLabelsError, answered, examples, seed_texts, train
from signals.tasks import Task

TRAINED_FROM = ("silver/labels", "silver/embeddings")
PACKAGED_FROM = ("silver/labels", "silver/images")
# What comes after a model in the same run, its answers, goes on where a champion can give them, or where there was
# never one, so that the task is not asked: a failed challenger is then a warning. The check is an error, and blocks,
# where the champion there is cannot serve under the running transformation and no challenger may take its place.
GATE_DOC = (
    "The model may serve: it is no worse than the champion on the same held-out rows, on none of the safety classes, "
    "and better than its floor. Blocks the rest of a run only if no champion can answer."
)


def model_asset(task: Task) -> dg.AssetsDefinition:
    """Return the asset whose materialisation trains a task, registers the model, and promotes it if it passes."""
    is_image = task.documents == ("image",)
    source, kinds = (PACKAGED_FROM, ("mlflow", "onnx")) if is_image else (TRAINED_FROM, ("mlflow", "scikitlearn"))
    name = f"models/{task.name}"

    @dg.asset(**model_spec(name, task_doc(task), GATE_DOC, deps=source, kinds=kinds, blocking=True), pool="encoder")
    def model(
        lakehouse: dg.ResourceParam[Lakehouse], encoder: dg.ResourceParam[Encoder], registry: dg.ResourceParam[Registry]
    ) -> dg.MaterializeResult:
        started = time.perf_counter()
        under = registry.for_encoder(encoder.digest)
        try:
            registered, verdict = renewed(task, lakehouse, encoder, under)
        except NotEnoughLabelsError as error:
            return unmade(str(error))
        can_serve = verdict.passed or serves(under, task, encoder.transform_id, recorded_comparisons(lakehouse))
        return _result(task, registered, verdict, can_serve=can_serve, seconds=time.perf_counter() - started)

    return model


def renewed(task: Task, lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> tuple[ModelVersion, Verdict]:
    """Train a task's model under an encoder, register it, and make it champion there if it passes the gate.

    Raises:
        NotEnoughLabelsError: the labels do not suffice for a model that could be judged.
    """
    make, source = (packaged, PACKAGED_FROM) if task.documents == ("image",) else (trained, TRAINED_FROM)
    # What lands meanwhile neither teaches nor judges, nor counts as seen.
    known = lakehouse.pinned_to(source)
    seen = {f"version:{table}": version for table, version in known.pinned.items()}
    seen["labels"] = labels_of(task, label_counts(known))
    with tempfile.TemporaryDirectory() as folder:
        metrics, record = make(task, known, encoder, Path(folder))
        registered = registry.register(task.name, Path(folder), metrics, record | seen)
    verdict = contested(task, registered, registry, known, encoder)
    return registered, verdict


def task_doc(task: Task) -> str:
    """Return what the UI says about a task's model."""
    asked = " and ".join(f"{kind}s" for kind in task.documents)
    return (
        f"The model of task {task.name}: {len(task.labels)} labels, asked of {asked}, judged by {task.metric} "
        f"(at least {task.floor:.2f}). One materialisation is one registered version; "
        "the gate decides whether it serves."
    )


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
    teaching = vectors[(rows["split"] != "val").to_numpy()]
    record = {
        "transform_id": encoder.transform_id,
        "family": "linear-head",
        "strength": result.strength,
        REFERENCE: reference(teaching, result.answers).dump(),
    }
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
        REFERENCE: reference(np.zeros((0, 0), np.float32), answered(scores, task)).dump(),
    }
    return evaluate(scores, answers, task.labels), record


def _result(
    task: Task, registered: ModelVersion, verdict: Verdict, *, can_serve: bool, seconds: float
) -> dg.MaterializeResult:
    figures = {name: value for name, value in registered.metrics.items() if not name.startswith("f1_")}
    record = {name: value for name, value in registered.record.items() if name != REFERENCE}
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
            "record": dg.MetadataValue.json(json.loads(json.dumps(record, default=str))),
            "seconds": round(seconds, 3),
        },
        data_version=dg.DataVersion(registered.digest),
        check_results=[check(verdict, dg.AssetCheckSeverity.WARN if can_serve else dg.AssetCheckSeverity.ERROR)],
    )
