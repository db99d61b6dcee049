"""Promotion and rollback of the encoder, together with the heads under it.

An encoder answers nothing without heads. So it serves only where every answered task has a head that was fitted and
gated under it. The encoder's alias moves last, after its heads': a kill in between leaves the serving encoder as it is.
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
    """An answered task has no head under the encoder."""

    def __init__(self, version: int, environment: str, tasks: Iterable[str], advice: str) -> None:
        encoder = "the packaged encoder" if version == PACKAGED else f"encoder version {version}"
        missing = ", ".join(sorted(tasks)) or "any task"
        super().__init__(f"{encoder} cannot serve in {environment}: no head under it can answer {missing}; {advice}")


def promote(
    version: ModelVersion, source: Registry, target: Registry, lakehouse: Lakehouse, *, by: str, why: str
) -> ModelVersion:
    """Promote an encoder version and its heads from one environment to another; return the version in the target.

    A task that has a head under the encoder in the target keeps it; the others get copies of the source's champions. A
    head is required for each task that the target answers now, or that the source answers under this encoder. The
    lakehouse records which transformations answer alike.

    Raises:
        NotReadyError: a required head is missing; nothing was changed.
        NotPassedError: the version has not passed the gate.
        TamperedModelError: files are not those that were registered.
    """
    encoder = Encoder(registry=source, lakehouse=lakehouse, version=version.version)
    source_heads, target_heads = source.for_encoder(version.digest), target.for_encoder(version.digest)
    required = _answered(target) | _answered(source_heads)
    present = heads(target_heads, encoder, required)
    to_copy = heads(source_heads, encoder, required - present.keys())
    missing = required - present.keys() - to_copy.keys()
    if missing or not required:
        advice = f"train and gate them in {source.environment} while it serves there: `seamless run`"
        raise NotReadyError(version.version, target.environment, missing, advice)
    for task, head in to_copy.items():
        promotion.promote(target_heads, task, source.copy_to(target, head).version, by=by, why=why)
    copy = version if source.environment == target.environment else source.copy_to(target, version)
    promotion.promote(target, ENCODER, copy.version, by=by, why=why)
    return copy


def roll_back(
    registry: Registry, to: int | None, lakehouse: Lakehouse, *, by: str, why: str, without: Collection[str] = ()
) -> tuple[int, int]:
    """Roll back the encoder of an environment; return the version that serves now, and the one that served.

    Args:
        registry: registry of the environment.
        to: the version, or ``PACKAGED``; None for the previous champion.
        lakehouse: records which transformations answer alike.
        by: person.
        why: reason.
        without: tasks that may go unanswered until they are trained under it, such as one that was added since.

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
    """Return the champions under an encoder, of some tasks, that can score under it.

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
