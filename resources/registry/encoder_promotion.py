"""What a person does with the encoder: have it serve in an environment, or have an earlier one serve again.

An encoder answers nothing without heads. So it serves only where every task that is answered has a head that was fitted
and gated under it. Heads come first, the encoder's own alias last: whatever is killed in between, what serves goes on.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress

from governance.promotion_log import ENCODER, PACKAGED
from resources.encoder import Encoder
from resources.registry.models import ModelMissingError, Registered, Registry
from signals.models.transform import TransformMismatchError
from signals.tasks import TASKS


class NotReadyError(RuntimeError):
    """A task that is answered has no head under an encoder."""

    def __init__(self, encoder: str, environment: str, tasks: Iterable[str], advice: str) -> None:
        missing = ", ".join(sorted(tasks))
        super().__init__(f"{encoder} cannot serve in {environment}: no head under it can answer {missing}; {advice}")


def promote(one: Registered, here: Registry, there: Registry, *, by: str, why: str) -> Registered:
    """Have a version serve in an environment, with the heads under it, and return the version there.

    A task that has a head under it there keeps that; the others get the champion under it from here, file by file. A
    task must be answered after it that is answered there now, or here under it.

    Raises:
        NotReadyError: a task has no such head; nothing was changed.
        NotPassedError: the version has not passed the gate.
        TamperedModelError: files are not those that were registered.
    """
    encoder, under = Encoder(registry=here, version=one.version), there.for_encoder(one.digest)
    asked = _answered(there) | _answered(here.for_encoder(one.digest))
    own = heads(under, encoder, asked)
    tested = heads(here.for_encoder(one.digest), encoder, asked - own.keys())
    missing = asked - own.keys() - tested.keys()
    if missing or not asked:
        advice = f"train and gate them in {here.environment} while it serves there: `seamless run`"
        raise NotReadyError(_told(one.version), there.environment, missing or ["any task"], advice)
    for head in tested.values():
        under.promote(head.task, here.copy_to(there, head).version, by=by, why=why)
    made = one if here.environment == there.environment else here.copy_to(there, one)
    there.promote(ENCODER, made.version, by=by, why=why)
    return made


def roll_back(
    registry: Registry, to: int | None, *, by: str, why: str, without: Collection[str] = ()
) -> tuple[int, int]:
    """Have an earlier version serve again; return it, and the one that served.

    Args:
        registry: of the environment.
        to: the version, or ``PACKAGED``; the one before this if left out.
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
    earlier = registry.before(ENCODER) if to is None else to
    encoder, asked = Encoder(registry=registry, version=earlier), _answered(registry)
    ready = heads(registry.for_encoder(encoder.digest), encoder, asked)
    missing = asked - ready.keys() - set(without)
    if missing or not ready:
        advice = "another version may, or this one --without them, which are then unanswered until they are trained"
        raise NotReadyError(_told(earlier), registry.environment, missing or ["any task"], advice)
    return earlier, registry.rollback(ENCODER, earlier, by=by, why=why)


def heads(registry: Registry, encoder: Encoder, tasks: Iterable[str]) -> dict[str, Registered]:
    """Return the champions of tasks, among those of one encoder, that can score under it.

    Raises:
        TamperedModelError: files are not those that were registered.
    """
    found = {}
    for task in tasks:
        with suppress(ModelMissingError, TransformMismatchError):
            champion = registry.champion(task)
            registry.load(champion, encoder.transform_id)
            found[task] = champion
    return found


def _answered(registry: Registry) -> set[str]:
    return {task for task in registry.traffic() if task in TASKS}


def _told(version: int) -> str:
    return "the packaged encoder" if version == PACKAGED else f"encoder version {version}"
