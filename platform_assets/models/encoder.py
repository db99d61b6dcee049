"""The encoder that all tasks share, tuned on all of them at once, rarely; it serves once everything under it is ready.

One materialisation takes one version through: tune and register it, encode the stored texts beside the vectors that
serve, fit every head, compare, and, if all are as good, make it champion. Until that last step the encoder and heads
that serve are not touched; a run that is killed is gone on with where it ended, but for the tuning itself.
"""

import logging
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from governance.gates.encoder import Compared, gate
from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER, PACKAGED
from platform_assets.conventions import table_key
from platform_assets.models.evaluation import BY, held_out, undoes
from platform_assets.models.heads import renewed
from platform_assets.models.model_specs import check, model_spec, unmade
from platform_assets.silver import embeddings
from resources.encoder import WEIGHTS, Encoder, has_gpu, packaged_weights, tokenizer
from resources.lakehouse.staleness import input_fingerprints
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from resources.registry.errors import ChampionMovedError, ModelMissingError
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from resources.transform_comparisons import recorded_comparisons
from signals.models import tuning
from signals.models.encoder import Int8Encoder
from signals.models.metrics import evaluate
from signals.models.training import NotEnoughLabelsError
from signals.models.transform import TransformMismatchError, transform_id
from signals.tasks import TASKS, Task

ENCODER_MODEL = f"models/{ENCODER}"
SOURCE = ("silver/labels", "silver/pages", "silver/messages")
# Fewer different labelled texts than this teach the encoder less than tuning on them takes from it.
LEAST_TEXTS = 20_000
GATE_DOC = "Every task is as good under it as under the encoder that serves."
# How often progress is told, in shares of all examples.
TOLD = 100


@dg.asset(**model_spec(ENCODER_MODEL, __doc__, GATE_DOC, deps=SOURCE, kinds=("mlflow", "pytorch", "onnx")))
def encoder_model(
    context: dg.AssetExecutionContext,
    lakehouse: dg.ResourceParam[Lakehouse],
    encoder: dg.ResourceParam[Encoder],
    registry: dg.ResourceParam[Registry],
) -> dg.MaterializeResult:
    """Take the newest version, or one that is tuned now, through to champion, or refuse it."""
    started = time.perf_counter()

    def progress(done: int, of: int) -> None:
        context.log_event(dg.AssetObservation(table_key(ENCODER_MODEL), metadata={"done": done, "of": of}))

    texts = teaching_texts(lakehouse)
    if texts < LEAST_TEXTS:
        return unmade(f"{texts} labelled texts of {LEAST_TEXTS}: the encoder stays as it is")
    candidate = unsettled(registry) or tuned(lakehouse, encoder, registry, progress)
    encode_stored(lakehouse, encoder.at_version(candidate.version))
    verdict = contested(candidate, lakehouse, encoder, registry)
    return _result(candidate, verdict, time.perf_counter() - started)


def unsettled(registry: Registry) -> ModelVersion | None:
    """Return the newest version if it was neither refused nor promoted: a run was killed, and goes on."""
    newest = next(iter(registry.versions(ENCODER)), None)
    return None if newest is None or newest.settled else newest


def tuned(lakehouse: Lakehouse, encoder: Encoder, registry: Registry, progress: tuning.Progress) -> ModelVersion:
    """Tune the packaged weights on what labels teach, and register them."""
    from safetensors.numpy import load_file, save_file

    started, known = time.perf_counter(), lakehouse.pinned_to(["silver/labels"])
    rows = tuning.lessons(known.read("silver/labels"))

    def told(done: int, of: int) -> None:
        if done * TOLD // of > (done - tuning.BATCH) * TOLD // of:
            progress(done, of)

    tune = partial(
        tuning.tune,
        load_file(packaged_weights()),
        tokenizer(),
        rows,
        asked=frozenset(TASKS),
        threads=encoder.threads,
        progress=told,
    )
    device = "cuda" if has_gpu() else "cpu"
    try:
        weights = tune(device=device)
    except RuntimeError as error:
        if device == "cpu":
            raise
        said = str(error).split("\n", maxsplit=1)[0]
        logging.getLogger(__name__).warning("the GPU failed (%s): tuning begins again on the CPU", said)
        weights = tune(device="cpu")
    record = {
        "family": "bert",
        "version:silver/labels": known.version("silver/labels"),
        "texts": teaching_texts(known),
        "rows_train": rows.height,
        "seconds": round(time.perf_counter() - started, 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS
        save_file(weights, file)
        record["transform_id"] = transform_id(Int8Encoder(file, tokenizer()).identity)
        return registry.register(ENCODER, Path(folder), {}, record)


def teaching_texts(lakehouse: Lakehouse) -> int:
    """Return how many different texts have a label that may teach."""
    if not lakehouse.exists("silver/labels"):
        return 0
    rows = lakehouse.scan("silver/labels").filter(pl.col("split") == "train", pl.col("text") != "")
    return rows.select(pl.col("content_hash").n_unique()).collect().item()


def encode_stored(lakehouse: Lakehouse, encoder: Encoder) -> None:
    """Give every stored text a vector of an encoder, a day at a time."""
    training = embeddings.training_hashes(lakehouse)
    for day in sorted({day for table in embeddings.INPUTS for day in lakehouse.days(table)}):
        checkpoints = input_fingerprints(
            lakehouse, embeddings.TABLE, embeddings.INPUTS, [day], encoder.encoder_id, streamed=True
        )
        embeddings.encode_missing(
            lakehouse, encoder, embeddings.distinct_texts(lakehouse, [day], training), [day], checkpoints
        )


def contested(candidate: ModelVersion, lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> Verdict:
    """Judge a candidate, keep the verdict, and promote it if it passes.

    If another serves by then, because a person went back to it, say, it is compared with that one.
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
    """Return the gate's verdict on a candidate, beside the encoder that serves now."""
    versions = registry.versions(ENCODER)
    against = next((one.version for one in versions if one.champion), None)
    why = undoes(candidate, versions)
    if why:
        return Verdict(passed=False, why=why, against=against)
    serving, following = encoder.at_version(against or PACKAGED), encoder.at_version(candidate.version)
    return replace(gate(figures(lakehouse, serving, following, registry)), against=against)


def figures(lakehouse: Lakehouse, serving: Encoder, following: Encoder, registry: Registry) -> dict[str, Compared]:
    """Return how each task that has a champion does under the next encoder and as it serves.

    Heads under the next encoder are fitted where there are none yet; one that does not pass has no figure.
    """
    found = {}
    for task in TASKS.values():
        before = _measured(task, serving, registry, lakehouse)
        if not before:
            continue
        after: dict[str, float] = {}
        with suppress(TransformMismatchError):  # it was fitted before the transformation changed otherwise
            after = _measured(task, following, registry, lakehouse)
        if not after:
            with suppress(NotEnoughLabelsError):
                renewed(task, lakehouse, following, registry.for_encoder(following.digest))
            after = _measured(task, following, registry, lakehouse)
        found[task.name] = Compared(after.get(task.metric), before.get(task.metric), before.get("rows", 0))
    return found


def _measured(task: Task, encoder: Encoder, registry: Registry, lakehouse: Lakehouse) -> dict[str, float]:
    """Return figures of a task's champion under an encoder on the held-out rows as they are now; none without one.

    Raises:
        TransformMismatchError: it was trained under another transformation than the encoder completes.
    """
    try:
        champion = registry.for_encoder(encoder.digest).champion(task.name)
    except ModelMissingError:
        return {}
    rows = held_out(task, lakehouse, encoder)
    head = registry.load(champion, encoder.transform_id, recorded_comparisons(lakehouse)).scorer
    return evaluate(head.scores(*rows.seen), rows.answers, task.labels)


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
        check_results=[check(verdict)],
    )
