"""Measures of risk, as aggregates of rows of reports/risk_analysis."""

import polars as pl

from platform_assets.reports.plots import RISKS
from signals.risks import RISKY, UNKNOWN
from signals.tasks import TASKS

THREAT_NAMES = {**TASKS["threat"].names, UNKNOWN: "Not judged"}
# Threats have shades of the colour of their risk, gravest risk first.
SHADES = {
    "floor": ("var(--floor)", "var(--floor-2)", "var(--floor-3)", "var(--floor-4)"),
    "high": ("var(--high)", "var(--high-2)", "var(--high-3)"),
    "medium": ("var(--medium)", "var(--medium-2)", "var(--medium-3)"),
}
IS_RISKY, THREATENING = pl.col("risk").is_in(RISKY), pl.col("risk").is_in(list(SHADES))
# Null of an unknown risk.
RANK = pl.col("risk").replace_strict(
    {risk: rank for rank, risk in enumerate(RISKS)}, default=None, return_dtype=pl.Int64
)
DOCUMENTS = pl.col("documents").sum()
JUDGED = pl.col("documents").filter(pl.col("threat") != UNKNOWN).sum()
RISKY_DOCUMENTS = pl.col("documents").filter(IS_RISKY).sum()
FLOOR_DOCUMENTS = pl.col("documents").filter(pl.col("risk") == "floor").sum()
COST, RISKY_COST = pl.col("cost_usd").sum(), pl.col("cost_usd").filter(IS_RISKY).sum()
IMPRESSIONS, RISKY_IMPRESSIONS = pl.col("impressions").sum(), pl.col("impressions").filter(IS_RISKY).sum()


def commonest_threat() -> pl.Expr:
    """Return the most common threat of a group, by documents."""
    threats = THREATENING & (pl.col("documents") > 0)
    names, numbers = pl.col("threat_name").filter(threats), pl.col("documents").filter(threats)
    return names.sort_by(numbers, names, descending=[True, False]).first()
