"""Decisions as frames: which of them count, and one row a document or label of them."""

from collections.abc import Mapping

import polars as pl

from signals.classify import ASKED_ABOUT
from signals.tasks import tasks_for
from signals.traffic import Traffic, assigned


def newest_answers(decisions: pl.DataFrame, traffic: Mapping[str, Traffic]) -> pl.DataFrame:
    """Return one decision a document, day and task: of the version that it is assigned to, else of the newest.

    A decision that was only made in shadow is returned where its version has come to be the one that answers.

    Args:
        decisions: silver/decisions.
        traffic: which versions answer each task.
    """
    is_assigned = (pl.col("model_version") == assigned(traffic)).fill_null(value=False)
    ranked = (
        decisions.with_columns(assigned=is_assigned)
        .filter(pl.col("assigned") | (pl.col("traffic_arm") != "shadow"))
        .sort("assigned", "model_version", "decision_id")
    )
    return ranked.unique([*ASKED_ABOUT, "task"], keep="last", maintain_order=True).drop("assigned")


def decided(documents: pl.DataFrame, answers: pl.DataFrame, traffic: Mapping[str, Traffic], kind: str) -> pl.DataFrame:
    """Return the documents of a kind about which something has been answered; all of them where nothing is asked.

    The others are still to be decided, and have no signals until then.
    """
    asked = any(task.name in traffic and traffic[task.name].champion is not None for task in tasks_for(kind))
    return documents.join(answers, on=ASKED_ABOUT, how="semi", maintain_order="left") if asked else documents


def pivoted(answers: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return one row a document, content and day with, for each task asked of its kind, what was answered.

    Columns a task: ``<task>`` (label), ``<task>_score``, and ``<task>_name`` and ``<task>_risk`` where the task
    declares names or risk levels. A task without an answer has nulls.
    """
    wide = answers.select(ASKED_ABOUT).unique(maintain_order=True)
    for task in tasks_for(kind):
        # A score without an answer is of no label.
        score = pl.when(pl.col("label").is_not_null()).then("score")
        columns = {task.name: pl.col("label"), f"{task.name}_score": score}
        for suffix, meanings in (("name", task.names), ("risk", task.risk)):
            if meanings:
                meant = pl.col("label").replace_strict(meanings, default=None, return_dtype=pl.String)
                columns[f"{task.name}_{suffix}"] = meant
        one = answers.filter(pl.col("task") == task.name).select(*ASKED_ABOUT, **columns)
        wide = wide.join(one, on=ASKED_ABOUT, how="left", maintain_order="left")
    return wide


def evidence_rows(answers: pl.DataFrame) -> pl.DataFrame:
    """Return one row a piece of evidence: task, label, score, start, end, share, words."""
    return (
        answers.select(*ASKED_ABOUT, "task", "evidence").explode("evidence").drop_nulls("evidence").unnest("evidence")
    )


def label_scores(answers: pl.DataFrame, task: str) -> pl.DataFrame:
    """Return one row a document and label of a task: label, score, and the answer, which is the likeliest label."""
    answered = answers.filter(pl.col("task") == task, pl.col("label").is_not_null())
    rows = answered.select(*ASKED_ABOUT, "scores", answer="label")
    return rows.explode("scores").drop_nulls("scores").unnest("scores")


def listed(rows: pl.DataFrame, **column: pl.Expr) -> pl.DataFrame:
    """Return one row a document, content and day with a list of what its rows are."""
    return rows.group_by(ASKED_ABOUT, maintain_order=True).agg(**column)
