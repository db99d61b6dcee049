"""Decisions to the signal that consumers read: one record a page or message, the same whoever reads it.

Silver, gold, the signal store and the API hand it on as it is.
"""

from collections.abc import Mapping

import polars as pl

from signals.classify import ASKED_ABOUT
from signals.documents.text import plain_texts
from signals.features.keywords import keywords
from signals.tasks import tasks_for
from signals.traffic import Traffic, assigned

UNKNOWN = "unknown"
# Levels of risk, least first. What nobody has judged may be anything, so only the worst level outranks it.
LEVELS = ("low", "medium", "high", UNKNOWN, "floor")
SAFE, RISKY = ("low", "medium"), ("high", "floor")
# The IAB Content Taxonomy 3.1 in OpenRTB's list of taxonomies (AdCOM, List: Category Taxonomies).
CATTAX = 9
FETCH = ("tenant_id", "url", "fetched_at")
# Where a row came from: no part of the record.
PROVENANCE = ("source", "position", "received_at")
OF_PAGES = (*FETCH, "document_id", "site", "published_on", "language", "title", "content_hash", "event_date")
OF_MESSAGES = (
    *("tenant_id", "message_id", "document_id", "author_id", "author_consents", "platform", "sent_at"),
    *("content_hash", "event_date"),
)


def page_record(pages: pl.DataFrame, images: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return pages as consumers read them, with where each came from.

    Args:
        pages: silver/pages.
        images: silver/images of the same days.
        answers: one decision a document and task.
    """
    words, topic = keywords(pages["text"]), pl.col("iab_category")
    rows = pages.select(*OF_PAGES, *PROVENANCE).with_columns(
        keywords=words, characters=pages["text"].str.len_chars().cast(pl.Int64)
    )
    told = pivoted(answers.filter(pl.col("kind") == "page"), "page")
    pictures = worst_picture(images, answers.filter(pl.col("kind") == "image"))
    rows = rows.join(told, on=ASKED_ABOUT, how="left", maintain_order="left")
    rows = rows.join(pictures, on=FETCH, how="left", maintain_order="left")
    topics = pl.when(topic.is_null()).then(pl.lit([], pl.List(pl.String))).otherwise(pl.concat_list(topic))
    return with_risk(rows.with_columns(cattax=pl.lit(CATTAX, pl.Int64), cat=topics))


def message_record(messages: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return messages as consumers read them, with where each came from.

    Args:
        messages: silver/messages.
        answers: one decision a document and task.
    """
    text = pl.Series(plain_texts(messages["text_as_sent"]), dtype=pl.String)
    rows = messages.select(*OF_MESSAGES, *PROVENANCE).with_columns(keywords=keywords(text))
    told = pivoted(answers.filter(pl.col("kind") == "message"), "message")
    rows = rows.join(told, on=ASKED_ABOUT, how="left", maintain_order="left")
    return rows.with_columns(risky=pl.col("threat_risk").is_in(RISKY))


def rank(level: pl.Expr) -> pl.Expr:
    """Return the place of a level among ``LEVELS``; what is no level is unknown."""
    places = {name: place for place, name in enumerate(LEVELS)}
    return level.replace_strict(places, default=places[UNKNOWN], return_dtype=pl.Int64)


def with_risk(signals: pl.DataFrame) -> pl.DataFrame:
    """Return pages with ``risk``, one of ``LEVELS``, and whether that is ``brand_safe`` or ``risky``.

    Args:
        signals: with ``threat_risk``, null where no model has judged the text, and ``image_threat_risk``, null where
            there are no pictures.
    """
    pictures = pl.when(pl.col("image_threat_risk").is_not_null()).then(rank(pl.col("image_threat_risk")))
    worst = pl.max_horizontal(rank(pl.col("threat_risk")), pictures)
    named = worst.replace_strict(dict(enumerate(LEVELS)), return_dtype=pl.String)
    return signals.with_columns(risk=named).with_columns(
        brand_safe=pl.col("risk").is_in(SAFE), risky=pl.col("risk").is_in(RISKY)
    )


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
