"""The history of a task's versions: who or what made which of them answer, when and why."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

Action = Literal["promotion", "rollback", "traffic"]
# Registered model of the encoder's weights, the only one that answers no task.
ENCODER = "encoder"
# Version of the packaged encoder, which is not registered; registered versions count from 1.
PACKAGED = 0


@dataclass(frozen=True)
class PromotionEvent:
    """One change of the versions that answer a task.

    Attributes:
        at: when (UTC).
        action: promotion or rollback to a champion, or a change of a challenger's traffic.
        version: the new champion, or the challenger; ``PACKAGED`` if the packaged encoder serves again.
        before: the champion until then; None if there was none.
        share: share of the documents that the challenger answers from then on; 0 in shadow, None when its trial ends.
        by: person or component that made the change.
        why: reason.
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
    """Return the champion before a champion's last promotion: the version that a rollback restores.

    So repeated rollbacks go further back, and never forward to a version that was rolled back.
    """
    promotions = [event for event in events if event.action == "promotion" and event.version == champion]
    return max(promotions, key=lambda event: event.at).before if promotions else None


def rolled_back(events: Iterable[PromotionEvent]) -> set[int]:
    """Return the versions that were rolled back, and not made champion again since.

    Only a person may promote them, or versions with the same files.
    """
    versions: set[int] = set()
    for event in sorted(events, key=lambda event: event.at):
        if event.action == "rollback" and event.before is not None:
            versions.add(event.before)
        if event.action != "traffic":
            versions.discard(event.version)
    return versions
