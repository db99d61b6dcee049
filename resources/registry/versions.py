"""A registered version of a model, as MLflow's tags and aliases describe it."""

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

CHAMPION, CHALLENGER, SHARE = "champion", "challenger", "challenger_share"
DIGEST, METRICS, VERDICT, REFERENCE = "digest", "metrics", "gate", "reference"
# The tag of an event goes on with its time.
EVENT = "move:"


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a model.

    Attributes:
        name: of the registered model, ``<environment>.<task>``.
        task: name of the task.
        version: number of the version.
        digest: of its files.
        transform_id: transformation that it was trained under.
        encoder: digest of the registered encoder that it was trained under; nothing if that is packaged.
        trained_at: when it was registered (UTC).
        champion: it is the champion.
        share: of the documents, that it answers as the challenger; 0 in shadow, None if it is no challenger.
        metrics: held-out figures of its training.
        record: what else is known of its training.
        verdict: what the gate said; None if it has not been judged.
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
        """Read MLflow's records of a version and of its model, as they stand under an encoder."""
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
        own = (event for event in reversed(self.events) if event.action != "traffic" and event.version == self.version)
        return next(own, None)

    @property
    def reference(self) -> Reference | None:
        """What its documents and answers are compared with; None of a version from before that was kept."""
        kept = self.record.get(REFERENCE)
        return None if kept is None else Reference.load(kept)

    @property
    def settled(self) -> bool:
        """Whether it was judged, and promoted if it passed: a training that was killed before leaves it unsettled."""
        return self.verdict is not None and (not self.verdict.passed or self.promoted is not None)

    def require_passed(self) -> Verdict:
        """Return the gate's verdict.

        Raises:
            NotPassedError: there is none, or it has not passed.
        """
        if self.verdict is None:
            raise NotPassedError(f"{self} has not been through the gate: materialise models/{self.task}")
        if not self.verdict.passed:
            raise NotPassedError(f"{self} has not passed the gate: {self.verdict.why}")
        return self.verdict


def training_tags(digest: str, encoder: str, metrics: Mapping[str, float], record: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a version is registered with."""
    known = {DIGEST: digest, METRICS: json.dumps(dict(metrics)), ENCODER: encoder}
    return known | {name: str(value) for name, value in record.items()}


def alias(name: str, encoder: str) -> str:
    """Return what an alias or a tag of a model is called under an encoder."""
    return f"{name}-{encoder[:16]}" if encoder else name


def traffic_of(model: Any, encoder: str) -> Traffic | None:
    """Return what the aliases of MLflow's record of a model say; None if it has no champion under an encoder."""
    champion, challenger = (model.aliases.get(alias(name, encoder)) for name in (CHAMPION, CHALLENGER))
    if champion is None or challenger is None:
        return None if champion is None else Traffic(int(champion))
    return Traffic(int(champion), int(challenger), float(model.tags[alias(SHARE, encoder)]))


def promotion_log(versions: Iterable[ModelVersion]) -> list[PromotionEvent]:
    """Return the events of a task's versions, oldest first."""
    return sorted((event for version in versions for event in version.events), key=lambda event: event.at)
