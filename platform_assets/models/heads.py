"""The model of a task: train it, register it, and have the gate judge it."""

import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from governance.gates.promotion import Verdict
from platform_assets.models.evaluation import champion_can_serve, judge_and_promote
from platform_assets.models.labelled import label_counts, labelled_images, labels_of, vectors_of
from platform_assets.models.model_specs import gate_check, model_spec, not_registered
from platform_assets.silver.labels import labels_in
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.progress import work
from resources.registry.models import Registry
from resources.registry.versions import REFERENCE, ModelVersion
from resources.transform_comparisons import recorded_comparisons
from signals.models.abstention import ACCURACY, COVERAGE
from signals.models.drift import reference
from signals.models.examples import examples
from signals.models.finer_training import finer_examples, finer_metrics, fit_finer
from signals.models.groups import TEST, invariance, sentences
from signals.models.metrics import evaluate
from signals.models.ngrams import ngrams
from signals.models.pictures import ADDED, FAMILY, PictureModels, package
from signals.models.training import NotEnoughLabelsError, answered, seed_texts, train
from signals.tasks import Task

TRAINED_FROM = ("silver/labels", "silver/embeddings")
PACKAGED_FROM = ("silver/labels", "silver/images")
# A failed challenger is a warning where a champion can answer, or where there never was one: the run goes on. It is an
# error, and blocks the decisions in the same run, where the champion may not score under the running transformation.
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
        heads = registry.for_encoder(encoder.digest)
        try:
            registered, verdict = train_and_promote(task, lakehouse, encoder, heads)
        except NotEnoughLabelsError as error:
            return not_registered(str(error))
        comparisons = recorded_comparisons(lakehouse)
        can_serve = verdict.passed or champion_can_serve(heads, task, encoder.transform_id, comparisons)
        return _result(task, registered, verdict, can_serve=can_serve, seconds=time.perf_counter() - started)

    return model


def train_and_promote(
    task: Task, lakehouse: Lakehouse, encoder: Encoder, registry: Registry, added: Path | None = None
) -> tuple[ModelVersion, Verdict]:
    """Train a task's model under an encoder, register it, and promote it if it passes the gate.

    Args:
        task: the task.
        lakehouse: with its labels.
        encoder: of the texts.
        registry: for the heads of the encoder.
        added: ONNX file of a model to stand beside the packaged classifier; that of the last champion if left out.

    Raises:
        NotEnoughLabelsError: too few labels to train and judge a model.
    """
    is_image = task.documents == ("image",)
    make, source = train_head, TRAINED_FROM
    if is_image:
        make, source = partial(package_classifier, added=added or added_model(registry, task)), PACKAGED_FROM
    # Rows that land meanwhile neither train nor judge, nor count as seen.
    pinned = lakehouse.pinned_to(source)
    inputs = {f"version:{table}": version for table, version in pinned.pinned.items()}
    inputs["labels"] = labels_of(task, label_counts(pinned))
    with tempfile.TemporaryDirectory() as folder, work(f"train {task.name}"):
        metrics, record = make(task, pinned, encoder, Path(folder))
        registered = registry.register(task.name, Path(folder), metrics, record | inputs)
    verdict = judge_and_promote(task, registered, registry, pinned, encoder)
    return registered, verdict


def task_doc(task: Task) -> str:
    """Return the UI's description of a task's model."""
    documents = " and ".join(f"{kind}s" for kind in task.documents)
    return (
        f"The model of task {task.name}: {len(task.labels)} labels, asked of {documents}, judged by {task.metric} "
        f"(at least {task.floor:.2f}). One materialisation is one registered version; "
        "the gate decides whether it serves."
    )


def train_head(
    task: Task, lakehouse: Lakehouse, encoder: Encoder, folder: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Train a head from labels and stored vectors, save it to a folder, and return its metrics and record.

    Raises:
        NotEnoughLabelsError: too few labels to train and judge a model.
    """
    labels = labels_in(lakehouse, encoder.languages)
    rows = examples(task, labels)
    vectors = vectors_of(rows, lakehouse, encoder)
    seeds, _ = seed_texts(task)
    seed_vectors = encoder.encode(seeds) if seeds else np.zeros((0, vectors.shape[1]), np.float32)
    result = train(task, rows, vectors, seed_vectors)
    finer_rows = finer_examples(task.name, labels)
    finer_vectors = vectors_of(finer_rows, lakehouse, encoder)
    finer = fit_finer(finer_rows, finer_vectors)
    head = replace(result.head, finer=finer)
    head.save(folder, task=task.name, transform_id=encoder.transform_id)
    metrics = result.metrics | (finer_metrics(finer, finer_rows, finer_vectors) if finer else {})
    if task.groups:
        texts = [sentence.text for sentence in sentences(TEST)]
        metrics |= invariance(task, head.scores(encoder.encode(texts), ngrams(texts)))
    training_vectors = vectors[(rows["split"] != "val").to_numpy()]
    record = {
        "transform_id": encoder.transform_id,
        "family": "linear-head",
        "strength": result.strength,
        REFERENCE: reference(training_vectors, result.answers).dump(),
    }
    return metrics, record | {f"rows_{name}": count for name, count in result.rows.items()}


def added_model(registry: Registry, task: Task) -> Path | None:
    """Return the ONNX file that the version has which last became champion, under any encoder; None without one."""
    promoted = [(v.promoted.at, v) for v in registry.versions(task.name, every_encoder=True) if v.promoted]
    path = registry.fetch(max(promoted, key=itemgetter(0))[1]) / ADDED if promoted else None
    return path if path is not None and path.exists() else None


def package_classifier(
    task: Task, lakehouse: Lakehouse, encoder: Encoder, folder: Path, added: Path | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Save the packaged image classifier to a folder, measure it on labelled images, and return metrics and record.

    The model that a user has added stands beside it.

    Raises:
        NotEnoughLabelsError: there is no labelled image to measure it on.
    """
    package(folder, task.labels, added, task=task.name, transform_id=encoder.transform_id)
    images = labelled_images(task, lakehouse)
    if images.is_empty():
        raise NotEnoughLabelsError(f"task {task.name}: no labelled picture to judge the packaged classifier on")
    scores = PictureModels(folder, task.labels).scores(images["body"].to_list())
    y_true = np.array([task.labels.index(label) for label in images["label"]])
    record = {
        "transform_id": encoder.transform_id,
        "family": FAMILY,
        "added": "" if added is None else added.name,
        "rows_train": 0,
        "rows_val": len(y_true),
        REFERENCE: reference(np.zeros((0, 0), np.float32), answered(scores, task)).dump(),
    }
    return evaluate(scores, y_true, task.labels), record


def _result(
    task: Task, registered: ModelVersion, verdict: Verdict, *, can_serve: bool, seconds: float
) -> dg.MaterializeResult:
    metrics = {
        name: value for name, value in registered.metrics.items() if not name.startswith(("f1_", COVERAGE, ACCURACY))
    }
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
            **metrics,
            "record": dg.MetadataValue.json(json.loads(json.dumps(record, default=str))),
            "seconds": round(seconds, 3),
        },
        data_version=dg.DataVersion(registered.digest),
        check_results=[gate_check(verdict, dg.AssetCheckSeverity.WARN if can_serve else dg.AssetCheckSeverity.ERROR)],
    )
