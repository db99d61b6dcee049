"""What has happened to a task's versions: who or what made which of them answer, when and why."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

Action = Literal["promotion", "rollback", "traffic"]
# The one registered model that answers no task: the encoder's weights.
ENCODER = "encoder"
# Its version that is packaged, not registered: those that are count from 1.
PACKAGED = 0


@dataclass(frozen=True)
class PromotionEvent:
    """One change of what answers a task.

    Attributes:
        at: when (UTC).
        action: a version became champion, by promotion or by rollback; or a challenger was given traffic.
        version: the new champion, or the challenger; ``PACKAGED`` if the packaged encoder serves again.
        before: the champion until then; None if there was none.
        share: of the documents, that the challenger answers from then on; 0 in shadow, None when its traffic ends.
        by: who or what did it.
        why: the reason.
    """

    at: datetime
    action: Action
    version: int
    before: int | None
    by: str
    why: str
    share: float | None = None

    def dump(self) -> str:
        """Return the event as JSON."""
        return json.dumps(asdict(self) | {"at": self.at.isoformat()})

    @classmethod
    def load(cls, text: str) -> "PromotionEvent":
        """Return the event that ``dump`` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"at": datetime.fromisoformat(fields["at"])})


def champion_before(events: Iterable[PromotionEvent], champion: int) -> int | None:
    """Return the version that a rollback goes back to: the champion before this one was promoted last.

    So that rollbacks, one after the other, go further back, and never forward to what was rolled back.
    """
    promotions = [event for event in events if event.action == "promotion" and event.version == champion]
    return max(promotions, key=lambda event: event.at).before if promotions else None


def rolled_back(events: Iterable[PromotionEvent]) -> set[int]:
    """Return the versions that have been rolled back and not been made champion by anyone since.

    The platform does not promote them, nor what has the same files: only a person does.
    """
    versions: set[int] = set()
    for event in sorted(events, key=lambda event: event.at):
        if event.action == "rollback" and event.before is not None:
            versions.add(event.before)
        if event.action != "traffic":
            versions.discard(event.version)
    return versions
