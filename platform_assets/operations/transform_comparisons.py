"""One row is one compared pair of transformations: both precisions of an encoder, or two versions.

The former are the encoder in int8 on a CPU, and in half precision on a GPU. With a GPU, a materialisation encodes
held-out texts in both, and the serving heads label them by each. Only after a passed comparison does the GPU encode,
and a head serve under both; until then int8 serves alone. `seamless transform compare` adds the latter. The ids of a
pair are sorted. ``verdict`` is the gate's verdict as JSON, ``compared_at`` the time of its first such verdict.
"""

import time
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from governance.gates.parity import parity, policy
from governance.gates.promotion import Verdict
from governance.transform_comparisons import Comparisons
from platform_assets.conventions import FRESHNESS, table_key, table_spec
from platform_assets.models.encoder import ENCODER_MODEL
from platform_assets.models.model_specs import GATE, gate_check
from platform_assets.silver.decisions import MODELS
from platform_assets.silver.labels import labels_in
from resources.encoder import Encoder, Precisions
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.transform_comparisons import TABLE, ensure_table, record, recorded_comparisons
from signals.models.encoder import LANGUAGES
from signals.models.examples import examples
from signals.models.heads import LinearHead
from signals.models.ngrams import ngrams
from signals.tasks import TASKS

LABELS = "silver/labels"
GATE_DOC = "Vectors of both precisions are close, and nearly every held-out text gets the same labels by both."
SPEC: dict[str, Any] = table_spec(
    TABLE,
    __doc__,
    deps=(*MODELS, ENCODER_MODEL, LABELS),
    kinds=("delta", "pytorch", "onnx"),
    daily=False,
) | {
    # Like a model, it is compared again for a reason, not by the clock.
    "freshness_policy": FRESHNESS["models"],
    "check_specs": [dg.AssetCheckSpec(GATE, asset=table_key(TABLE), description=GATE_DOC)],
}


@dg.asset(**SPEC, pool="encoder")
def transform_comparisons(
    lakehouse: dg.ResourceParam[Lakehouse], encoder: dg.ResourceParam[Encoder], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Compare both precisions of the serving encoder, and record the verdict."""
    started, precisions = time.perf_counter(), encoder.precisions()
    ensure_table(lakehouse)
    if precisions is None:
        verdict = Verdict(passed=True, why="no GPU here, nothing to compare: the encoder serves in int8")
    else:
        verdict = compared(lakehouse, precisions, registry.for_encoder(encoder.digest))
        record(lakehouse, precisions.transform_ids, verdict, datetime.now(UTC))
    rows, version = lakehouse.count(TABLE), lakehouse.version(TABLE)
    metadata = {"gate": verdict.why, "transform_ids": list(precisions.transform_ids) if precisions else []}
    counts = {"dagster/row_count": rows, "delta_version": version, "seconds": round(time.perf_counter() - started, 3)}
    return dg.MaterializeResult(metadata={**metadata, **counts}, check_results=[gate_check(verdict)])


def compared(lakehouse: Lakehouse, precisions: Precisions, registry: Registry) -> Verdict:
    """Return the gate's verdict on both precisions, by the serving heads of text tasks."""
    labels, cosines = {}, []
    label_rows = labels_in(lakehouse, LANGUAGES)
    traffic = registry.traffic()
    for name in sorted(TASKS.keys() & traffic.keys()):
        champion = registry.version(name, traffic[name].champion)
        head = registry.load(champion, champion.transform_id, Comparisons()).scorer
        if not isinstance(head, LinearHead):  # it scores images, not vectors
            continue
        rows = examples(TASKS[name], label_rows).filter(pl.col("split") == "val", pl.col("text") != "")
        texts = rows.sort("content_hash").head(policy().texts)["text"].to_list()
        int8, half = (encoder.encode(texts) for encoder in (precisions.int8, precisions.half))
        labels[name] = tuple(head.scores(vectors, ngrams(texts)).argmax(axis=1) for vectors in (int8, half))
        cosines.append((int8 * half).sum(axis=1))
    return parity(np.concatenate(cosines) if cosines else np.empty(0, np.float32), labels)


def due(lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> bool:
    """Say whether there is a GPU, and a text task with traffic has not been compared."""
    precisions = encoder.precisions()
    if precisions is None:
        return False
    compared_tasks = recorded_comparisons(lakehouse).tasks(*precisions.transform_ids)
    traffic = registry.for_encoder(encoder.digest).traffic()
    return any(name not in compared_tasks for name in traffic if name in TASKS and TASKS[name].documents != ("image",))
