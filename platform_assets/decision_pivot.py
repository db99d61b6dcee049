"""Decisions about documents, side by side: one column a task, as consumers read them."""

from collections.abc import Mapping

import polars as pl

from signals.classify import ASKED_ABOUT
from signals.consumer_record import UNKNOWN, rank
from signals.tasks import tasks_for
from signals.traffic import Traffic, assigned

FETCH = ("tenant_id", "url", "fetched_at")


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
        columns = {task.name: pl.col("label"), f"{task.name}_score": pl.col("score")}
        for suffix, meanings in (("name", task.names), ("risk", task.risk)):
            if meanings:
                meant = pl.col("label").replace_strict(meanings, default=None, return_dtype=pl.String)
                columns[f"{task.name}_{suffix}"] = meant
        one = answers.filter(pl.col("task") == task.name).select(*ASKED_ABOUT, **columns)
        wide = wide.join(one, on=ASKED_ABOUT, how="left", maintain_order="left")
    return wide


def worst_picture(images: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return for each fetch of a page (tenant_id, url, fetched_at) the worst picture, and how many it has.

    Columns: image_threat, image_threat_score, image_threat_risk, images. Its risk is ``unknown``, and its threat and
    score are null, where no model has judged it.

    Args:
        images: silver/images.
        answers: decisions about them.
    """
    told = images.filter(pl.col("page_url").is_not_null()).select(*ASKED_ABOUT, "fetched_at", url="page_url")
    told = told.join(pivoted(answers, "image"), on=ASKED_ABOUT, how="left")
    told = told.with_columns(pl.col("image_threat_risk").fill_null(UNKNOWN))
    graver = rank(pl.col("image_threat_risk"))
    return (
        # The surest of risky answers is the worst, and the least sure of harmless ones.
        told.sort(graver, pl.col("image_threat_score") * pl.when(graver > 0).then(1).otherwise(-1))
        .group_by(FETCH, maintain_order=True)
        .agg(
            pl.col("image_threat", "image_threat_score", "image_threat_risk").last(),
            images=pl.len().cast(pl.Int64),
        )
    )
