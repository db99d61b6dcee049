"""The gate of an upgrade: whether two transformations give the same, so that models carry over. It fails closed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from governance.gates.promotion import Figure, Verdict

POLICY = Path(__file__).with_suffix(".yaml")
# Differences that a verdict names.
NAMED = 5
OF_ALL = ("texts", "vectors", "probes")


@dataclass(frozen=True)
class Policy:
    """``carry_over.yaml``."""

    documents: int
    least_documents: int
    coordinate: float
    score: float
    machine_cosine: float


@dataclass(frozen=True)
class Part:
    """What was compared of one kind: texts, vectors or a task's answers.

    Attributes:
        name: ``texts``, ``vectors`` or ``probes``, else the task.
        compared: how many documents.
        faults: a line for each that differs: which document, which value.
        identical: how many are the same to the last digit.
    """

    name: str
    compared: int
    faults: tuple[str, ...]
    identical: int


@lru_cache(maxsize=1)
def policy() -> Policy:
    """Return the policy in force."""
    return Policy(**yaml.safe_load(POLICY.read_text(encoding="utf-8")))


def texts(names: Sequence[str], before: Sequence[str | None], now: Sequence[str | None]) -> Part:
    """Compare texts, or their hashes, of named documents."""
    faults = [f"{name}: its text differs" for name, old, new in zip(names, before, now, strict=True) if old != new]
    return Part("texts", len(names), tuple(faults), len(names) - len(faults))


def vectors(names: Sequence[str], before: npt.NDArray[np.float32], now: npt.NDArray[np.float32]) -> Part:
    """Compare vectors, (documents, dimensions), of named documents."""
    if before.shape != now.shape:
        return Part("vectors", len(names), (f"vectors had shape {before.shape}, have {now.shape}",), 0)
    apart = np.abs(before - now)
    faults = [
        f"{name}: coordinate {row.argmax()} of its vector was {old[row.argmax()]:.5f}, is {new[row.argmax()]:.5f}"
        for name, row, old, new in zip(names, apart, before, now, strict=True)
        if not row.max() <= policy().coordinate
    ]
    return Part("vectors", len(names), tuple(faults), int((apart == 0).all(axis=1).sum()))


def answers(task: str, pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> Part:
    """Compare a task's recorded decisions with those made now, rows of ``signals.classify.DECISION``."""
    faults, compared, identical = [], 0, 0
    for old, new in pairs:
        compared += 1
        fault = "it is not answered" if new is None else _difference(old, new)
        if fault:
            faults.append(f"{old['document_id']}: {task}: {fault}")
        identical += new is not None and old["scores"] == new["scores"]
    return Part(task, compared, tuple(faults), identical)


def carry_over(parts: Sequence[Part]) -> Verdict:
    """Judge what was compared; a task of which too little was is left out, so its model does not carry over."""
    told = [part for part in parts if part.name in OF_ALL or part.compared >= policy().least_documents]
    figures = tuple(
        Figure("of all" if part.name in OF_ALL else "task", part.name, "identical", part.compared, share)
        for part in told
        for share in [part.identical / part.compared if part.compared else 0.0]
    )
    faults = [fault for part in parts for fault in part.faults]
    if faults:
        more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        return Verdict(passed=False, why="; ".join(faults[:NAMED]) + more, figures=figures)
    compared = {part.name: part.compared for part in told if part.compared}
    if not compared.keys() - OF_ALL or "vectors" not in compared:
        why = f"nothing to compare: fewer than {policy().least_documents} documents have a stored vector and decision"
        return Verdict(passed=False, why=why, figures=figures)
    return Verdict(passed=True, why=", ".join(f"{count} {name}" for name, count in compared.items()), figures=figures)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    for name in ("label", "abstention"):
        if old[name] != new[name]:
            return f"{name} was {old[name]}, is {new[name]}"
    before, now = ({one["label"]: one["score"] for one in of["scores"] or []} for of in (old, new))
    for label in before | now:
        was, is_ = before.get(label), now.get(label)
        if was is None or is_ is None or not abs(was - is_) <= policy().score:
            return f"score of {label} was {was}, is {is_}"
    return ""
