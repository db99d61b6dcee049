"""What a person does with the encoder: have it serve in an environment, or have an earlier one serve again.

An encoder answers nothing without heads. So it serves only where every task that is answered has a head that was fitted
and gated under it. Heads come first, the encoder's own alias last: whatever is killed in between, what serves goes on.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress

from governance.promotion_log import ENCODER, PACKAGED
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from resources.registry.errors import ModelMissingError
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from signals.models.transform import TransformMismatchError
from signals.tasks import TASKS


class NotReadyError(RuntimeError):
    """A task that is answered has no head under an encoder."""

    def __init__(self, version: int, environment: str, tasks: Iterable[str], advice: str) -> None:
        encoder = "the packaged encoder" if version == PACKAGED else f"encoder version {version}"
        missing = ", ".join(sorted(tasks)) or "any task"
        super().__init__(f"{encoder} cannot serve in {environment}: no head under it can answer {missing}; {advice}")


def promote(
    version: ModelVersion, here: Registry, there: Registry, lakehouse: Lakehouse, *, by: str, why: str
) -> ModelVersion:
    """Have a version serve in an environment, with the heads under it, and return the version there.

    A task that has a head under it there keeps that; the others get the champion under it from here, file by file. A
    task must be answered after it that is answered there now, or here under it. The lakehouse says which
    transformations answer alike.

    Raises:
        NotReadyError: a task has no such head; nothing was changed.
        NotPassedError: the version has not passed the gate.
        TamperedModelError: files are not those that were registered.
    """
    encoder = Encoder(registry=here, lakehouse=lakehouse, version=version.version)
    heads_here, heads_there = here.for_encoder(version.digest), there.for_encoder(version.digest)
    required = _answered(there) | _answered(heads_here)
    kept = heads(heads_there, encoder, required)
    copied = heads(heads_here, encoder, required - kept.keys())
    missing = required - kept.keys() - copied.keys()
    if missing or not required:
        advice = f"train and gate them in {here.environment} while it serves there: `seamless run`"
        raise NotReadyError(version.version, there.environment, missing, advice)
    for task, head in copied.items():
        promotion.promote(heads_there, task, here.copy_to(there, head).version, by=by, why=why)
    copy = version if here.environment == there.environment else here.copy_to(there, version)
    promotion.promote(there, ENCODER, copy.version, by=by, why=why)
    return copy


def roll_back(
    registry: Registry, to: int | None, lakehouse: Lakehouse, *, by: str, why: str, without: Collection[str] = ()
) -> tuple[int, int]:
    """Have an earlier version serve again; return it, and the one that served.

    Args:
        registry: of the environment.
        to: the version, or ``PACKAGED``; the one before this if left out.
        lakehouse: says which transformations answer alike.
        by: who does it.
        why: the reason.
        without: tasks that may go unanswered, such as one that was added since, until they are trained under it.

    Raises:
        NotReadyError: another task that is answered now has no head under it; nothing was changed.
        ModelMissingError: the packaged encoder serves, or there is no such version.
        NotPassedError: the version has not passed the gate.
        TamperedModelError: files are not those that were registered.
    """
    if not registry.serving_encoder():
        raise ModelMissingError(f"the packaged encoder serves in {registry.environment}: there is none before it")
    target = promotion.previous_champion(registry, ENCODER) if to is None else to
    encoder, required = Encoder(registry=registry, lakehouse=lakehouse, version=target), _answered(registry)
    ready = heads(registry.for_encoder(encoder.digest), encoder, required)
    missing = required - ready.keys() - set(without)
    if missing or not ready:
        advice = "another version may, or this one --without them, which are then unanswered until they are trained"
        raise NotReadyError(target, registry.environment, missing, advice)
    return target, promotion.roll_back(registry, ENCODER, target, by=by, why=why)


def heads(registry: Registry, encoder: Encoder, tasks: Iterable[str]) -> dict[str, ModelVersion]:
    """Return the champions of tasks, among those of one encoder, that can score under it.

    Raises:
        TamperedModelError: files are not those that were registered.
    """
    ready, comparisons = {}, encoder.comparisons()
    for task in tasks:
        with suppress(ModelMissingError, TransformMismatchError):
            champion = registry.champion(task)
            registry.load(champion, encoder.transform_id, comparisons)
            ready[task] = champion
    return ready


def _answered(registry: Registry) -> set[str]:
    return {task for task in registry.traffic() if task in TASKS}
