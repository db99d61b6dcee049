"""Conventions of every model's asset: its specification, and the check with its gate's verdict."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import dagster as dg

from governance.gates.promotion import Verdict
from platform_assets.conventions import FRESHNESS, table_key

GATE = "gate"


def model_spec(
    model: str, doc: str | None, gate: str, *, deps: Iterable[str], kinds: Iterable[str], blocking: bool = False
) -> dict[str, Any]:
    """Return the arguments of ``dg.asset`` for a model.

    Args:
        model: ``models/<name>``.
        doc: its description in the UI.
        gate: description of the check.
        deps: tables and models that it is made from.
        kinds: technologies that the UI shows.
        blocking: a failed check stops the later steps of a run.
    """
    key = table_key(model)
    return {
        "key": key,
        "deps": [table_key(dep) for dep in deps],
        "group_name": "models",
        "description": doc,
        "owners": ["team:ml"],
        "kinds": set(kinds),
        "freshness_policy": FRESHNESS["models"],
        "check_specs": [dg.AssetCheckSpec(GATE, asset=key, description=gate, blocking=blocking)],
    }


def gate_check(verdict: Verdict, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN) -> dg.AssetCheckResult:
    """Return the check with the gate's verdict; ``severity`` applies if it fails."""
    metadata: dict[str, Any] = {"why": verdict.why}
    if verdict.figures:
        metadata["compared"] = dg.MetadataValue.json(asdict(verdict))
    return dg.AssetCheckResult(check_name=GATE, passed=verdict.passed, severity=severity, metadata=metadata)


def not_registered(why: str) -> dg.MaterializeResult:
    """Return the result of a model's asset that has registered no version, and why."""
    verdict = Verdict(passed=False, why=why)
    return dg.MaterializeResult(metadata={"champion": False, "gate": why}, check_results=[gate_check(verdict)])
