"""What every asset of a model shares: how it is declared, and the check that says what its gate has said."""

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
        doc: what the UI says of it.
        gate: what it means that the check passes.
        deps: tables and models that it is made from.
        kinds: what the UI shows it to be made with.
        blocking: what comes after it in a run waits for the check.
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


def check(verdict: Verdict, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN) -> dg.AssetCheckResult:
    """Return what the gate said; ``severity`` is of a check that fails."""
    shown: dict[str, Any] = {"why": verdict.why}
    if verdict.figures:
        shown["compared"] = dg.MetadataValue.json(asdict(verdict))
    return dg.AssetCheckResult(check_name=GATE, passed=verdict.passed, severity=severity, metadata=shown)


def unmade(why: str) -> dg.MaterializeResult:
    """Return what a model's asset says that has registered nothing, and why."""
    verdict = Verdict(passed=False, why=why)
    return dg.MaterializeResult(metadata={"champion": False, "gate": why}, check_results=[check(verdict)])
