"""Promotion, rollback, and a challenger's share of the traffic.

One process at a time changes a task's aliases. Each change is recorded first, so that no version answers unrecorded.
"""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from governance.promotion_log import ENCODER, PACKAGED, PromotionEvent, champion_before, rolled_back
from resources.registry.errors import ChampionMovedError, ModelMissingError, NotPassedError
from resources.registry.lock import Lease, locked
from resources.registry.models import Registry
from resources.registry.versions import CHALLENGER, CHAMPION, EVENT, SHARE, ModelVersion, alias, promotion_log


def promote(registry: Registry, task: str, version: int, *, by: str, why: str, automatic: bool = False) -> None:
    """Make a version the champion; a challenger's traffic ends.

    Args:
        registry: registry of the environment.
        task: name of the task.
        version: number of the version.
        by: person or component that promotes it.
        why: reason.
        automatic: no person decides. It may replace only the champion of the gate's comparison, and was never rolled
            back.

    Raises:
        ModelMissingError: there is no such version.
        NotPassedError: it has not passed the gate, or was rolled back and ``automatic``.
        ChampionMovedError: the champion is another, and ``automatic``.
    """
    with _locked(registry, task) as lease:
        challenger = registry.version(task, version)
        verdict = challenger.require_passed()
        versions = registry.for_encoder(challenger.encoder).versions(task, every_encoder=True)
        champion = next((candidate.version for candidate in versions if candidate.champion), None)
        if automatic and version in rolled_back(promotion_log(versions)):
            raise NotPassedError(f"{challenger} was rolled back: only a person may promote it")
        if automatic and champion != verdict.against:
            raise ChampionMovedError(
                f"{challenger} was compared with version {verdict.against}, but version {champion} is champion now"
            )
        if champion != version:
            event = PromotionEvent(datetime.now(UTC), "promotion", version, champion, by, why)
            _set_champion(registry, challenger, event, lease)


def previous_champion(registry: Registry, task: str) -> int:
    """Return the champion before the present one was promoted; ``PACKAGED`` before the first encoder.

    Raises:
        ModelMissingError: there is no champion, or none before it.
    """
    champion = registry.champion(task).version
    previous = champion_before(promotion_log(registry.versions(task)), champion)
    if previous is None and task == ENCODER:
        return PACKAGED
    if previous is None:
        raise ModelMissingError(
            f"task {task} had no champion before version {champion} in {registry.environment} to go back to"
        )
    return previous


def roll_back(registry: Registry, task: str, to: int, *, by: str, why: str) -> int:
    """Make an earlier version champion again; return the version that it replaces.

    For an encoder, ``encoder_promotion`` checks the heads first.

    Raises:
        ModelMissingError: there is no champion, or no such version.
        NotPassedError: the version has not passed the gate, or not under the encoder that serves.
    """
    with _locked(registry, task) as lease:
        champion = registry.champion(task)
        if (task, to) != (ENCODER, PACKAGED):
            target = registry.version(task, to)
            target.require_passed()
            if target.encoder != champion.encoder:
                raise NotPassedError(f"{target} is of another encoder than the one that serves")
        if to != champion.version:
            event = PromotionEvent(datetime.now(UTC), "rollback", to, champion.version, by, why)
            _set_champion(registry, champion, event, lease)
        return champion.version


def set_traffic(registry: Registry, task: str, challenger: int | None, share: float, *, by: str, why: str) -> None:
    """Give a challenger a share of the documents; 0 means shadow, and no challenger ends the trial.

    Raises:
        ModelMissingError: there is no champion, or no such version.
        NotPassedError: a challenger with a share above 0 has not passed the gate.
    """
    with _locked(registry, task) as lease:
        name, champion, current = registry.name(task), registry.champion(task), registry.traffic()[task].challenger
        if challenger == champion.version:
            raise NotPassedError(f"{champion} is the champion: a challenger is another version")
        if challenger is not None:
            version = registry.version(task, challenger)
            if share > 0:
                version.require_passed()
        subject, new_share = (current, None) if challenger is None else (challenger, share)
        if subject is None:
            return
        event = PromotionEvent(datetime.now(UTC), "traffic", subject, champion.version, by, why, new_share)
        _record(registry, task, event, lease)
        # In this order, a kill leaves no challenger, but never one with another's share.
        if current is not None:
            registry.client.delete_registered_model_alias(name, alias(CHALLENGER, champion.encoder))
        if challenger is not None:
            registry.client.set_registered_model_tag(name, alias(SHARE, champion.encoder), str(share))
            registry.client.set_registered_model_alias(name, alias(CHALLENGER, champion.encoder), str(challenger))


def _locked(registry: Registry, task: str) -> AbstractContextManager[Lease]:
    return locked(registry.client, registry.name(task), Path(registry.cache))


def _set_champion(registry: Registry, sibling: ModelVersion, event: PromotionEvent, lease: Lease) -> None:
    """Make an event's version champion of a sibling's model, under the sibling's encoder.

    The packaged encoder is no registered version: it serves where the encoder has no champion.
    """
    name, client = sibling.name, registry.client
    champion, challenger = (alias(role, sibling.encoder) for role in (CHAMPION, CHALLENGER))
    _record(registry, sibling.task, event, lease)
    if challenger in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, challenger)
    if event.version == PACKAGED:
        client.delete_registered_model_alias(name, champion)
    else:
        client.set_registered_model_alias(name, champion, str(event.version))


def _record(registry: Registry, task: str, event: PromotionEvent, lease: Lease) -> None:
    """Record an event, the first write of a change, after a check of the lease."""
    lease.check()
    tag = f"{EVENT}{event.at:%Y-%m-%dT%H:%M:%S.%f}"
    registry.client.set_model_version_tag(registry.name(task), str(event.version or event.before), tag, event.dump())
