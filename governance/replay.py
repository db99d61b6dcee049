"""Replay: a decision that is made again, beside the one on record."""

from collections.abc import Mapping
from typing import Any


def differences(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """Return what is answered otherwise, scores to the last digit; nothing if all is alike.

    Args:
        recorded: the decision on record, with the columns of ``signals.classify.DECISION``.
        again: the same decision, made again.
    """
    scores, scores_again = ({one["label"]: one["score"] for one in of["scores"] or []} for of in (recorded, again))
    pairs = {name: (recorded[name], again[name]) for name in ("label", "abstention")}
    pairs |= {f"score of {label}": (scores.get(label), scores_again.get(label)) for label in scores | scores_again}
    told = [f"{name} was {before}, is {now}" for name, (before, now) in pairs.items() if before != now]
    # Where there is none, the list may be stored as null.
    return told + [name for name in ("evidence", "topics") if (recorded[name] or []) != (again[name] or [])]
