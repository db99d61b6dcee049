"""Whether the encoder gives the same answers in half precision on a GPU as in int8 on a CPU, measured where a GPU is.

One materialisation encodes held-out texts both ways, has the heads that answer label them by each, and keeps in the
registry what came of it. Only after that does the GPU encode, and a head serve under both; until then int8 is alone.
"""

import dagster as dg
import numpy as np
import polars as pl

from governance.gates.parity import parity, policy
from governance.gates.promotion import Verdict
from platform_assets.models.encoder import ENCODER_MODEL
from platform_assets.models.model_specs import check, model_spec, unmade
from resources.encoder import Encoder, Precisions
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.models.heads import LinearHead
from signals.models.ngrams import ngrams
from signals.models.training import examples
from signals.tasks import TASKS

PARITY_MODEL = "models/parity"
GATE_DOC = "Vectors of both precisions are close, and nearly every held-out text gets the same labels by both."


@dg.asset(
    **model_spec(
        PARITY_MODEL, __doc__, GATE_DOC, deps=(ENCODER_MODEL, "silver/labels"), kinds=("mlflow", "pytorch", "onnx")
    )
)
def encoder_parity(
    lakehouse: dg.ResourceParam[Lakehouse], encoder: dg.ResourceParam[Encoder], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Compare both precisions of the encoder that serves, and keep the verdict."""
    both = encoder.precisions()
    if both is None:
        return unmade("no GPU here: the encoder serves in int8")
    verdict = compared(lakehouse, both, registry.for_encoder(encoder.digest))
    registry.keep_parity(both.transform_ids, verdict)
    shown = {"champion": verdict.passed, "gate": verdict.why, "transform_ids": list(both.transform_ids)}
    return dg.MaterializeResult(metadata=shown, check_results=[check(verdict)])


def compared(lakehouse: Lakehouse, both: Precisions, registry: Registry) -> Verdict:
    """Return what the policy says of both precisions, by the heads under the encoder that answer texts."""
    labels, cosines = {}, []
    known = lakehouse.read("silver/labels")
    answered = registry.traffic()
    for name in sorted(TASKS.keys() & answered.keys()):
        champion = registry.version(name, answered[name].champion)
        head = registry.load(champion, champion.transform_id).scorer
        if not isinstance(head, LinearHead):  # it reads pictures, and no vector
            continue
        rows = examples(TASKS[name], known).filter(pl.col("split") == "val", pl.col("text") != "")
        texts = rows.sort("content_hash").head(policy().texts)["text"].to_list()
        one, other = (encoder.encode(texts) for encoder in (both.int8, both.half))
        labels[name] = tuple(head.scores(vectors, ngrams(texts)).argmax(axis=1) for vectors in (one, other))
        cosines.append((one * other).sum(axis=1))
    return parity(np.concatenate(cosines) if cosines else np.empty(0, np.float32), labels)


def due(encoder: Encoder, registry: Registry) -> bool:
    """Say whether a GPU is here, and a task that is answered has not been compared."""
    both = encoder.precisions()
    if both is None:
        return False
    found = registry.parity(*both.transform_ids)
    seen = {figure.part for figure in found.figures} if found else set()
    answered = registry.for_encoder(encoder.digest).traffic()
    return any(name not in seen for name in answered if name in TASKS and TASKS[name].documents != ("image",))
