"""Challengers compared with champions, on the documents that both decided."""

from collections.abc import Sequence

import polars as pl

from platform_assets.reports.aggregates import largest, ratio
from platform_assets.reports.page import Column, Grid
from platform_assets.reports.text import percent, plural
from resources.lakehouse.tables import Lakehouse
from signals.classify import ASKED_ABOUT

DECISIONS, LABELS = "silver/decisions", "silver/labels"
KEY = [*ASKED_ABOUT, "task"]
DECISION_COLUMNS = (*KEY, "label", "score", "model_version", "traffic_arm")


def shadow_comparisons(lakehouse: Lakehouse, days: Sequence[str]) -> pl.DataFrame:
    """Return the comparison of champions and challengers on some days. See ``compare``."""
    decisions = lakehouse.scan(DECISIONS, days or None).select(DECISION_COLUMNS)
    shadowed = decisions.filter(pl.col("traffic_arm") == "shadow").select(KEY).unique()
    decided = decisions.join(shadowed, on=KEY, how="semi").collect()
    labels = pl.DataFrame(schema=dict.fromkeys(("task", "content_hash", "label"), pl.String))
    if decided.height and lakehouse.exists(LABELS):
        in_decisions = pl.col("content_hash").is_in(decided["content_hash"].unique().implode())
        latest = lakehouse.scan(LABELS).filter(in_decisions).sort("labelled_at", "label_id")
        labels = latest.unique(["task", "content_hash"], keep="last").select(labels.columns).collect()
    return compare(decided, labels)


def compare(decisions: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Return one row per task, champion and challenger, over the documents that both decided.

    Columns: ``documents``; ``answered``, documents whose consumers saw the challenger's answer; ``agreement``, the
    share with equal answers; the mean score of each; ``labelled``, documents with a reviewer's label, and the share of
    them that each answered correctly.

    Args:
        decisions: rows of silver/decisions about documents with a shadow decision.
        labels: one label per task and content_hash.
    """
    shadow = pl.col("traffic_arm") == "shadow"
    pairs = decisions.filter(~shadow).join(decisions.filter(shadow), on=KEY, suffix="_shadow")
    pairs = pairs.join(labels.rename({"label": "right"}), on=["task", "content_hash"], how="left")
    answers = pl.col("traffic_arm") == "challenger"

    def of_role(role: str, name: str) -> pl.Expr:
        value, shadow_value = pl.col(name), pl.col(f"{name}_shadow")
        is_unshadowed = answers if role == "challenger" else ~answers
        return pl.when(is_unshadowed).then(value).otherwise(shadow_value).alias(f"{role}_{name}")

    roles = [of_role(role, name) for role in ("champion", "challenger") for name in ("model_version", "label", "score")]
    pairs = pairs.select("task", "right", *roles, answered=answers)
    is_labelled = pl.col("right").is_not_null()
    return (
        pairs.group_by("task", champion="champion_model_version", challenger="challenger_model_version")
        .agg(
            documents=pl.len().cast(pl.Int64),
            answered=pl.col("answered").sum().cast(pl.Int64),
            agreement=pl.col("champion_label").eq_missing(pl.col("challenger_label")).mean(),
            champion_score=pl.col("champion_score").mean(),
            challenger_score=pl.col("challenger_score").mean(),
            labelled=is_labelled.sum().cast(pl.Int64),
            champion_right=ratio((pl.col("champion_label") == pl.col("right")).sum(), is_labelled.sum()),
            challenger_right=ratio((pl.col("challenger_label") == pl.col("right")).sum(), is_labelled.sum()),
        )
        .sort("task", "challenger", "champion")
    )


def ab_tests(rows: pl.DataFrame) -> list[Grid]:
    """Return the table of trials; none without a trial."""
    if rows.is_empty():
        return []
    least = rows.sort("agreement", "task").row(0, named=True)
    most = largest(rows, "documents", "task").row(0, named=True)
    reading = (
        f"{least['task']} agrees the least: {percent(least['agreement'])} of "
        f"{plural(least['documents'], 'document')} have one answer of champion and challenger."
    )
    reading += f" {most['task']} was asked the most." if rows.height > 1 else ""
    columns = [
        Column("task", "Task", "name"),
        Column("champion", "Champion", "count"),
        Column("challenger", "Challenger", "count"),
        Column("documents", "Both asked", "count"),
        Column("answered", "Answered by challenger", "count"),
        Column("agreement", "Agreement", "percent"),
        Column("champion_score", "Champion’s mean score", "decimal"),
        Column("challenger_score", "Challenger’s", "decimal"),
        Column("labelled", "With a reviewer’s answer", "count"),
        Column("champion_right", "Champion right", "percent"),
        Column("challenger_right", "Challenger right", "percent"),
    ]
    return [Grid("Challengers beside champions", reading, columns, rows.to_dicts())]
