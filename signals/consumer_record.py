"""Decisions to the signal that consumers read: one record a page or message, the same whoever reads it.

Silver, gold, the signal store and the API hand it on as it is.
"""

from datetime import timedelta

import polars as pl
import pyarrow as pa

from signals import classify
from signals.classify import ASKED_ABOUT
from signals.decisions import evidence_rows, listed, pivoted
from signals.documents.text import plain_texts
from signals.features.keywords import keywords
from signals.risks import LEVELS, NO_RISK, RISKY, UNKNOWN, rank, risk_policy, risks_of, with_risk
from signals.taxonomies import CATTAX

# How long the signals of a fetch hold: pages are edited, and fetched again, within weeks.
HOLDS = timedelta(days=30)
FETCH = ("tenant_id", "url", "fetched_at")
# Where a row came from: no part of the record.
PROVENANCE = ("source", "position", "received_at")
OF_PAGES = (
    *(*FETCH, "document_id", "site", "published_on", "language", "language_score"),
    *("title", "content_hash", "event_date"),
)
OF_MESSAGES = (
    *("tenant_id", "message_id", "document_id", "author_id", "author_consents", "platform", "sent_at"),
    *("language", "language_score", "content_hash", "event_date"),
)
# A decision's evidence, and the task that it is of.
EVIDENCE = pl.Struct({"task": pl.String, **pl.DataFrame(pa.schema(list(classify.EVIDENCE)).empty_table()).schema})

# What answered: a decision of one version of a model under one transformation.
ANSWERED = ("task", "decision_id", "model_name", "model_version", "transform_id")


def page_record(pages: pl.DataFrame, images: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return pages as consumers read them, with where each came from.

    Args:
        pages: silver/pages.
        images: silver/images of the same days.
        answers: one decision a document and task.
    """
    words = keywords(pages["text"])
    rows = pages.select(*OF_PAGES, *PROVENANCE).with_columns(
        keywords=words, characters=pages["text"].str.len_chars().cast(pl.Int64)
    )
    signals = signals_of(answers.filter(pl.col("kind") == "page"), "page")
    pictures = worst_picture(images, answers.filter(pl.col("kind") == "image"))
    rows = with_signals(rows, signals).join(pictures, on=FETCH, how="left", maintain_order="left")
    topics = pl.col("topics").list.eval(pl.element().struct.field("id"))
    expires_at = pl.col("fetched_at") + HOLDS
    return with_risk(rows.with_columns(expires_at=expires_at, cattax=pl.lit(CATTAX, pl.Int64), cat=topics))


def message_record(messages: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return messages as consumers read them, with where each came from.

    Args:
        messages: silver/messages.
        answers: one decision a document and task.
    """
    text = pl.Series(plain_texts(messages["text_as_sent"]), dtype=pl.String)
    rows = messages.select(*OF_MESSAGES, *PROVENANCE).with_columns(keywords=keywords(text))
    signals = signals_of(answers.filter(pl.col("kind") == "message"), "message")
    return with_signals(rows, signals).with_columns(risky=pl.col("threat_risk").is_in(RISKY))


def signals_of(answers: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return one row a document, content and day with its answers, topics, risks and evidence.

    Columns: those of ``pivoted``, and ``topics`` (see ``classify.TOPIC``), ``risks`` and ``evidence``, lists of
    ``RISK`` and ``EVIDENCE``, surest first. ``threat_risk`` is the worst level of the risks, null if unjudged.
    ``decisions`` lists what answered, with ``ANSWERED``.
    """
    wide = pivoted(answers, kind)
    decided = listed(answers.sort("task", maintain_order=True), decisions=pl.struct(*ANSWERED))
    for lists in (topics_of(answers), risks_of(answers, risk_policy()), evidence_of(answers), decided):
        wide = wide.join(lists, on=ASKED_ABOUT, how="left", maintain_order="left")
    level = pl.col("risks").list.eval(rank(pl.element().struct.field("level"))).list.max()
    worst = level.fill_null(rank(pl.lit(NO_RISK))).replace_strict(dict(enumerate(LEVELS)), return_dtype=pl.String)
    return wide.with_columns(threat_risk=pl.when(pl.col("threat").is_not_null()).then(worst))


def with_signals(rows: pl.DataFrame, signals: pl.DataFrame) -> pl.DataFrame:
    """Return documents with their signals; of what nobody has answered, lists are empty and answers null."""
    joined = rows.join(signals, on=ASKED_ABOUT, how="left", maintain_order="left")
    return joined.with_columns(pl.col("topics", "risks", "evidence", "decisions").fill_null([]))


def topics_of(answers: pl.DataFrame) -> pl.DataFrame:
    """Return the topics of documents, surest first."""
    of_topics = pl.col("task") == "iab_category"
    return answers.filter(of_topics, pl.col("label").is_not_null()).select(*ASKED_ABOUT, pl.col("topics").fill_null([]))


def evidence_of(answers: pl.DataFrame) -> pl.DataFrame:
    """Return what carried the labels of documents, surest first."""
    rows = evidence_rows(answers).sort("score", descending=True, maintain_order=True)
    return listed(rows, evidence=pl.struct(*EVIDENCE.to_schema()).cast(EVIDENCE))


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
