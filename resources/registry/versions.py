"""A registered version of a model, read from MLflow's tags and aliases."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER, PromotionEvent
from resources.registry.errors import NotPassedError
from signals.models.drift import Reference
from signals.traffic import Traffic

# Tag of a version whose training rows held a subject that was erased since: when that was noted.
ERASED = "erased"
CHAMPION, CHALLENGER, SHARE = "champion", "challenger", "challenger_share"
DIGEST, METRICS, VERDICT, REFERENCE, SIGNATURE = "digest", "metrics", "gate", "reference", "signature"
# Prefix of an event's tag, before its time.
EVENT = "move:"


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a model.

    Attributes:
        name: name of the registered model, ``<environment>.<task>``.
        task: name of the task.
        version: number of the version.
        digest: digest of its files.
        transform_id: transformation that it was trained under.
        encoder: digest of the registered encoder that it was trained under; empty for the packaged one.
        trained_at: when it was registered (UTC).
        champion: it is the champion.
        share: share of the documents that it answers as the challenger; 0 in shadow, None if it is no challenger.
        metrics: held-out figures of its training.
        record: other facts of its training.
        verdict: verdict of the gate; None before it.
        events: changes that made it answer, or the packaged encoder instead of it, oldest first.
    """

    name: str
    task: str
    version: int
    digest: str
    transform_id: str
    encoder: str
    trained_at: datetime
    champion: bool
    share: float | None
    metrics: dict[str, float]
    record: dict[str, str]
    verdict: Verdict | None
    events: tuple[PromotionEvent, ...]

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    @classmethod
    def read(cls, version: Any, model: Any, encoder: str) -> "ModelVersion":
        """Return a version from MLflow's records of it and of its model, with its state under an encoder."""
        tags, number, task = dict(version.tags), int(version.version), version.name.partition(".")[2]
        traffic = traffic_of(model, "" if task == ENCODER else encoder)
        verdict, digest, metrics = tags.pop(VERDICT, None), tags.pop(DIGEST), tags.pop(METRICS, "{}")
        events = tuple(PromotionEvent.load(tags.pop(tag)) for tag in sorted(tags) if tag.startswith(EVENT))
        return cls(
            name=version.name,
            task=task,
            version=number,
            digest=digest,
            transform_id=tags["transform_id"],
            encoder=tags.get(ENCODER, ""),
            trained_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            champion=traffic is not None and traffic.champion == number,
            share=traffic.share if traffic is not None and traffic.challenger == number else None,
            metrics=json.loads(metrics),
            record=tags,
            verdict=None if verdict is None else Verdict.load(verdict),
            events=events,
        )

    @property
    def promoted(self) -> PromotionEvent | None:
        """The event that made it champion last."""
        for event in reversed(self.events):
            if event.action != "traffic" and event.version == self.version:
                return event
        return None

    @property
    def reference(self) -> Reference | None:
        """Distributions that drift is measured against; None of a version that was registered without them."""
        reference = self.record.get(REFERENCE)
        return None if reference is None else Reference.load(reference)

    @property
    def erased_at(self) -> datetime | None:
        """When training rows of it were first erased (UTC); None if all of them are still there."""
        noted = self.record.get(ERASED)
        return None if noted is None else datetime.fromisoformat(noted)

    @property
    def settled(self) -> bool:
        """Whether it was judged, and promoted if it passed; False after a training that was killed in between."""
        return self.verdict is not None and (not self.verdict.passed or self.promoted is not None)

    def require_passed(self) -> Verdict:
        """Return the gate's verdict.

        Raises:
            NotPassedError: it was not judged, or did not pass.
        """
        if self.verdict is None:
            raise NotPassedError(f"{self} has not been through the gate: materialise models/{self.task}")
        if not self.verdict.passed:
            raise NotPassedError(f"{self} has not passed the gate: {self.verdict.why}")
        return self.verdict


def training_tags(digest: str, encoder: str, metrics: Mapping[str, float], record: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version at its registration."""
    tags = {DIGEST: digest, METRICS: json.dumps(dict(metrics)), ENCODER: encoder}
    return tags | {name: str(value) for name, value in record.items()}


def alias(name: str, encoder: str) -> str:
    """Return the name of a model's alias or tag under an encoder."""
    return f"{name}-{encoder[:16]}" if encoder else name


def traffic_of(model: Any, encoder: str) -> Traffic | None:
    """Return a model's traffic under an encoder, by the aliases of MLflow's record; None without a champion."""
    champion, challenger = (model.aliases.get(alias(name, encoder)) for name in (CHAMPION, CHALLENGER))
    if champion is None or challenger is None:
        return None if champion is None else Traffic(int(champion))
    return Traffic(int(champion), int(challenger), float(model.tags[alias(SHARE, encoder)]))


def promotion_log(versions: Iterable[ModelVersion]) -> list[PromotionEvent]:
    """Return the events of a task's versions, oldest first."""
    return sorted((event for version in versions for event in version.events), key=lambda event: event.at)
