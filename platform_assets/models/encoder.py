"""The encoder that all tasks share, rarely tuned, on all of them at once.

One materialisation takes one version to a verdict: tune and register it, encode the stored texts, train every head,
compare, and promote it if all tasks are as good. Until that last step the serving encoder and heads are not touched. A
killed run is resumed where it ended, the tuning itself from its last checkpoint.
"""

import logging
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path

import dagster as dg
import numpy as np
import numpy.typing as npt
import polars as pl

from governance.gates.encoder import TaskComparison, gate
from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER, PACKAGED
from platform_assets.conventions import table_key
from platform_assets.models.evaluation import BY, held_out, rollback_reason
from platform_assets.models.heads import train_and_promote
from platform_assets.models.model_specs import gate_check, model_spec, not_registered
from platform_assets.silver import embeddings
from platform_assets.silver.labels import labels_in
from resources.encoder import WEIGHTS, Encoder, has_gpu, packaged_weights, tokenizer
from resources.lakehouse.staleness import input_fingerprints
from resources.lakehouse.tables import Lakehouse
from resources.progress import work
from resources.registry import promotion
from resources.registry.errors import ChampionMovedError, ModelMissingError
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from resources.transform_comparisons import recorded_comparisons
from resources.tuning_work import TuningWork
from signals.models import tuning
from signals.models.encoder import Int8Encoder
from signals.models.metrics import evaluate
from signals.models.training import NotEnoughLabelsError
from signals.models.transform import TransformMismatchError, transform_id
from signals.tasks import TASKS, Task

ENCODER_MODEL = f"models/{ENCODER}"
SOURCE = ("silver/labels", "silver/pages", "silver/messages")
# With fewer distinct labelled texts, tuning makes the encoder worse.
LEAST_TEXTS = 20_000
GATE_DOC = "Every task is as good under it as under the encoder that serves."
# Observations of a tuning in the UI.
PROGRESS_STEPS = 100


@dg.asset(**model_spec(ENCODER_MODEL, __doc__, GATE_DOC, deps=SOURCE, kinds=("mlflow", "pytorch", "onnx")))
def encoder_model(
    context: dg.AssetExecutionContext,
    lakehouse: dg.ResourceParam[Lakehouse],
    encoder: dg.ResourceParam[Encoder],
    registry: dg.ResourceParam[Registry],
) -> dg.MaterializeResult:
    """Promote or refuse the newest version, or one that is tuned now."""
    started = time.perf_counter()

    def observe(done: int, total: int) -> None:
        context.log_event(dg.AssetObservation(table_key(ENCODER_MODEL), metadata={"done": done, "of": total}))

    if registry.configured_encoder:
        return not_registered("the settings name the encoder, and it is used as it is")
    texts = teaching_texts(lakehouse)
    if texts < LEAST_TEXTS:
        return not_registered(f"{texts} labelled texts of {LEAST_TEXTS}: the encoder stays as it is")
    candidate = unsettled(registry) or tune_encoder(lakehouse, encoder, registry, observe)
    encode_stored(lakehouse, encoder.at_version(candidate.version))
    verdict = judge_and_promote(candidate, lakehouse, encoder, registry)
    return _result(candidate, verdict, time.perf_counter() - started)


def unsettled(registry: Registry) -> ModelVersion | None:
    """Return the newest version if it was neither refused nor promoted, because its run was killed."""
    newest = next(iter(registry.versions(ENCODER)), None)
    return None if newest is None or newest.settled else newest


def tune_encoder(lakehouse: Lakehouse, encoder: Encoder, registry: Registry, observe: tuning.Progress) -> ModelVersion:
    """Tune the packaged weights on the labels, and register them."""
    from safetensors.numpy import save_file

    started, pinned = time.perf_counter(), lakehouse.pinned_to(["silver/labels"])
    rows = tuning.lessons(labels_in(pinned, encoder.languages))
    tune = partial(_tuned, rows, encoder, registry.cache, observe)
    device = "cuda" if has_gpu() else "cpu"
    try:
        weights, examples, kept = tune(device)
    except RuntimeError as error:
        if device == "cpu":
            raise
        message = str(error).split("\n", maxsplit=1)[0]
        logging.getLogger(__name__).warning("the GPU failed (%s): tuning begins again on the CPU", message)
        weights, examples, kept = tune("cpu")
    record = {
        "family": "bert",
        "version:silver/labels": pinned.version("silver/labels"),
        "texts": teaching_texts(pinned),
        "rows_train": rows.height,
        "examples": examples,
        "seconds": round(time.perf_counter() - started, 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS
        save_file(weights, file)
        record["transform_id"] = transform_id(Int8Encoder(file, tokenizer()).identity)
        registered = registry.register(ENCODER, Path(folder), {}, record)
    kept.remove()
    return registered


def _tuned(
    rows: pl.DataFrame, encoder: Encoder, cache: str, observe: tuning.Progress, device: str
) -> tuple[dict[str, npt.NDArray[np.float32]], int, TuningWork]:
    """Return tuned weights, the number of examples that they have seen, and the folder that is then done with."""
    from safetensors.numpy import load_file

    asked, minutes = frozenset(TASKS), encoder.tuning_minutes
    decides = tuning.fingerprint(
        packaged_weights(), tokenizer(), rows, asked=asked, threads=encoder.threads, device=device
    )
    folder = TuningWork(Path(cache) / "tuning", f"{decides[:32]}-{minutes or 'all'}")
    weights = load_file(packaged_weights())
    tune = partial(tuning.tune, weights, tokenizer(), rows, asked=asked, threads=encoder.threads, device=device)
    examples = folder.examples(lambda: tuning.examples_within(minutes, tune) if minutes else tuning.EXAMPLES)
    with work("tune on examples") as say:

        def report(done: int, total: int) -> None:
            say(done, total)
            if done * PROGRESS_STEPS // total > (done - tuning.BATCH) * PROGRESS_STEPS // total:
                observe(done, total)

        tuned = tune(examples=examples, progress=report, saved=folder.load(), checkpoint=folder.checkpoint)
    return tuned, examples, folder


def teaching_texts(lakehouse: Lakehouse) -> int:
    """Return the number of distinct texts with a training label."""
    if not lakehouse.exists("silver/labels"):
        return 0
    rows = lakehouse.scan("silver/labels").filter(pl.col("split") == "train", pl.col("text") != "")
    return rows.select(pl.col("content_hash").n_unique()).collect().item()


def encode_stored(lakehouse: Lakehouse, encoder: Encoder) -> None:
    """Encode every stored text with an encoder, a day at a time."""
    training = cache(partial(embeddings.training_hashes, lakehouse, encoder))
    for day in sorted({day for table in embeddings.INPUTS for day in lakehouse.days(table)}):
        checkpoints = input_fingerprints(
            lakehouse, embeddings.TABLE, embeddings.INPUTS, [day], encoder.encoder_id, streamed=True
        )
        embeddings.encode_missing(
            lakehouse, encoder, embeddings.distinct_texts(lakehouse, [day], training), [day], checkpoints
        )


def judge_and_promote(candidate: ModelVersion, lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> Verdict:
    """Judge a candidate, record the verdict, and promote it if it passes.

    If another encoder comes to serve meanwhile, the candidate is compared with that one.
    """
    while True:
        verdict = gate_encoder(candidate, lakehouse, encoder, registry)
        registry.judge(candidate, verdict)
        if not verdict.passed:
            return verdict
        with suppress(ChampionMovedError):
            promotion.promote(registry, ENCODER, candidate.version, by=BY, why=verdict.why, automatic=True)
            return verdict


def gate_encoder(candidate: ModelVersion, lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> Verdict:
    """Return the gate's verdict on a candidate, compared with the serving encoder."""
    versions = registry.versions(ENCODER)
    against = next((version.version for version in versions if version.champion), None)
    why = rollback_reason(candidate, versions)
    if why:
        return Verdict(passed=False, why=why, against=against)
    serving, tuned = encoder.at_version(against or PACKAGED), encoder.at_version(candidate.version)
    return replace(gate(compared_tasks(lakehouse, serving, tuned, registry)), against=against)


def compared_tasks(
    lakehouse: Lakehouse, serving: Encoder, tuned: Encoder, registry: Registry
) -> dict[str, TaskComparison]:
    """Return the metric of each task with a champion under the tuned and the serving encoder.

    Missing heads under the tuned encoder are trained; one that does not pass its gate has no metric.
    """
    compared = {}
    for task in TASKS.values():
        before = _champion_metrics(task, serving, registry, lakehouse)
        if not before:
            continue
        after: dict[str, float] = {}
        with suppress(TransformMismatchError):  # its head is of another transformation
            after = _champion_metrics(task, tuned, registry, lakehouse)
        if not after:
            with suppress(NotEnoughLabelsError):
                train_and_promote(task, lakehouse, tuned, registry.for_encoder(tuned.digest))
            after = _champion_metrics(task, tuned, registry, lakehouse)
        compared[task.name] = TaskComparison(after.get(task.metric), before.get(task.metric), before.get("rows", 0))
    return compared


def _champion_metrics(task: Task, encoder: Encoder, registry: Registry, lakehouse: Lakehouse) -> dict[str, float]:
    """Return the metrics of a task's champion under an encoder on the held-out rows; none without a champion.

    Raises:
        TransformMismatchError: the champion is of another transformation than the encoder's.
    """
    try:
        champion = registry.for_encoder(encoder.digest).champion(task.name)
    except ModelMissingError:
        return {}
    rows = held_out(task, lakehouse, encoder)
    head = registry.load(champion, encoder.transform_id, recorded_comparisons(lakehouse)).scorer
    return evaluate(head.scores(*rows.features), rows.y_true, task.labels)


def _result(candidate: ModelVersion, verdict: Verdict, seconds: float) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={
            "version": candidate.version,
            "champion": verdict.passed,
            "gate": verdict.why,
            "digest": candidate.digest,
            "transform_id": candidate.transform_id,
            "tasks": dg.MetadataValue.json([asdict(figure) for figure in verdict.figures]),
            "record": dg.MetadataValue.json(candidate.record),
            "seconds": round(seconds, 3),
        },
        data_version=dg.DataVersion(candidate.digest),
        check_results=[gate_check(verdict)],
    )
