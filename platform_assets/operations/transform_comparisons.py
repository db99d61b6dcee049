"""One row is one compared pair of transformations: the encoder in int8 on a CPU, and in half precision on a GPU.

One materialisation, where a GPU is, encodes held-out texts both ways and has the heads that answer label them by each.
Only after a comparison that passed does the GPU encode, and a head serve under both; until then int8 is alone. The ids
of a pair are in order; ``verdict`` is what the gate said, as JSON, and ``compared_at`` when it first said so.
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
from platform_assets.models.model_specs import GATE, check
from platform_assets.silver.decisions import MODELS
from resources.encoder import Encoder, Precisions
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.transform_comparisons import TABLE, ensure_table, record, recorded_comparisons
from signals.models.heads import LinearHead
from signals.models.ngrams import ngrams
from signals.models.training import examples
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
    # As a model, it is made again when there is a reason, not by the clock.
    "freshness_policy": FRESHNESS["models"],
    "check_specs": [dg.AssetCheckSpec(GATE, asset=table_key(TABLE), description=GATE_DOC)],
}


@dg.asset(**SPEC, pool="encoder")
def transform_comparisons(
    lakehouse: dg.ResourceParam[Lakehouse], encoder: dg.ResourceParam[Encoder], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Compare both precisions of the encoder that serves, and keep the verdict."""
    started, both = time.perf_counter(), encoder.precisions()
    ensure_table(lakehouse)
    if both is None:
        verdict = Verdict(passed=True, why="no GPU here, nothing to compare: the encoder serves in int8")
    else:
        verdict = compared(lakehouse, both, registry.for_encoder(encoder.digest))
        record(lakehouse, both.transform_ids, verdict, datetime.now(UTC))
    rows, version = lakehouse.count(TABLE), lakehouse.version(TABLE)
    said = {"gate": verdict.why, "transform_ids": list(both.transform_ids) if both else []}
    counts = {"dagster/row_count": rows, "delta_version": version, "seconds": round(time.perf_counter() - started, 3)}
    return dg.MaterializeResult(metadata={**said, **counts}, check_results=[check(verdict)])


def compared(lakehouse: Lakehouse, both: Precisions, registry: Registry) -> Verdict:
    """Return what the policy says of both precisions, by the heads under the encoder that answer texts."""
    labels, cosines = {}, []
    known = lakehouse.read(LABELS)
    answered = registry.traffic()
    for name in sorted(TASKS.keys() & answered.keys()):
        champion = registry.version(name, answered[name].champion)
        head = registry.load(champion, champion.transform_id, Comparisons()).scorer
        if not isinstance(head, LinearHead):  # it reads pictures, and no vector
            continue
        rows = examples(TASKS[name], known).filter(pl.col("split") == "val", pl.col("text") != "")
        texts = rows.sort("content_hash").head(policy().texts)["text"].to_list()
        one, other = (encoder.encode(texts) for encoder in (both.int8, both.half))
        labels[name] = tuple(head.scores(vectors, ngrams(texts)).argmax(axis=1) for vectors in (one, other))
        cosines.append((one * other).sum(axis=1))
    return parity(np.concatenate(cosines) if cosines else np.empty(0, np.float32), labels)


def due(lakehouse: Lakehouse, encoder: Encoder, registry: Registry) -> bool:
    """Say whether a GPU is here, and a task that is answered has not been compared."""
    both = encoder.precisions()
    if both is None:
        return False
    seen = recorded_comparisons(lakehouse).tasks(*both.transform_ids)
    answered = registry.for_encoder(encoder.digest).traffic()
    return any(name not in seen for name in answered if name in TASKS and TASKS[name].documents != ("image",))
