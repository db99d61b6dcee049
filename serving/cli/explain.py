"""`seamless explain`: why a page or message was judged as it was, and what would make it harmless."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from governance.access import AccessDeniedError, Identity, role, view
from governance.catalog import TENANT
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.serving_models import ServingModels, serving_models
from resources.settings import Settings, settings
from signals.answers import NO_TEXT
from signals.classify import DOCUMENT, Models, classify
from signals.documents.text import document_text
from signals.documents.urls import canonical_url
from signals.risks import SAFE
from signals.tasks import TASKS
from signals.traffic import Traffic

# Signals and documents of each kind, and the column by which the newest counts.
TABLES = {
    "page": ("silver/page_signals", "silver/pages", "fetched_at"),
    "message": ("silver/message_signals", "silver/messages", "sent_at"),
}
# Words that are taken away, one after the other, until the text is harmless.
MAX_WORDS = 20
PASSAGE = 240


class UnknownDocumentError(LookupError):
    """No page or message has a name."""


@dataclass(frozen=True)
class Document:
    """A document with its newest signals, and the tables that they were read from."""

    kind: str
    signal: dict[str, Any]
    text: str
    tables: tuple[str, str]


def explain(document: Document) -> Iterator[str]:
    """Yield lines about the newest signals of a document: topics, risks, and the passage and words behind each."""
    kind, signal, text = document.kind, document.signal, document.text
    yield f"{signal['document_id']}  ({kind}, {signal['language'] or 'language not shown'})"
    yield f"risk: {signal['risk'] if kind == 'page' else signal['threat_risk'] or 'unknown'}"
    if signal.get("image_threat_risk"):
        picture = signal["image_threat"] or "not judged"
        yield f"worst of {signal['images']} pictures: {picture}, {signal['image_threat_risk']}"
    for topic in signal["topics"] or []:
        yield f"topic: {topic['path']} ({topic['score']:.2f})"
    risks = {risk["category"]: risk for risk in signal["risks"] or []}
    for risk in risks.values():
        yield f"risk: {TASKS['threat'].names[risk['category']]}, {risk['level']} ({risk['score']:.2f})"
    for evidence in signal["evidence"] or []:
        if evidence["task"] == "threat" and signal["threat"] and evidence["label"] not in risks:
            continue
        passage = " ".join(text[evidence["start"] : evidence["end"]].split())
        shortened = passage if len(passage) <= PASSAGE else f"{passage[:PASSAGE]}…"
        label = TASKS[evidence["task"]].names[evidence["label"]]
        yield f"{label}: “{shortened}”"
        yield f"  words: {', '.join(evidence['words']) or 'none; the whole passage'}"
    if risks and not {risk["level"] for risk in risks.values()} <= set(SAFE):
        words = words_to_remove(serving_models(settings()), kind, text)
        yield f"harmless without: {', '.join(words)}" if words else f"not harmless without {MAX_WORDS} words either"


def words_to_remove(serving: ServingModels, kind: str, text: str) -> list[str]:
    """Return the words that would have to go for a text to have no risk; none if ``MAX_WORDS`` do not suffice.

    The word that speaks most for the likeliest risk goes first. So a shorter list may exist.
    """
    champion = serving.champion("threat")
    models = Models({"threat": Traffic(champion.version)}, {"threat": champion})
    removed: list[str] = []
    while len(removed) <= MAX_WORDS:
        row = {"kind": kind, "text": text, "content_hash": ""}
        (decisions,) = classify([pa.RecordBatch.from_pylist([row], DOCUMENT)], models, serving.encoder)
        decision = decisions.to_pylist()[0]
        if decision["label"] == champion.task.nothing or decision["abstention"] == NO_TEXT:
            return removed
        likeliest = max(decision["evidence"], key=lambda one: one["score"], default=None)
        if not likeliest or not likeliest["words"]:
            return []
        removed.append(likeliest["words"][0])
        text = re.sub(rf"\b{re.escape(removed[-1])}\b", "", text, flags=re.IGNORECASE)
    return []


def read_document(settings: Settings, name: str, asks: Identity) -> Document:
    """Return a document as far as an identity may see it.

    Args:
        settings: those of the process.
        name: URL or document id.
        asks: the identity.

    Raises:
        AccessDeniedError: its role may read no texts.
        UnknownDocumentError: no page or message has that name, or it has not been decided yet.
    """
    tables, may_read = lakehouse(settings), False
    for kind, (signals, documents, moment) in TABLES.items():
        if not tables.exists(signals):
            continue
        rows, texts = _seen(tables, signals, asks), _seen(tables, documents, asks)
        if rows is None or texts is None or "text" not in texts.collect_schema():
            continue
        may_read = True
        named = pl.col("document_id").is_in([name, canonical_url(name)])
        if kind == "page":
            named |= pl.col("url") == name
        newest = rows.filter(named).sort(moment).tail(1).collect().to_dicts()
        if newest:
            same = [pl.col(column) == newest[0][column] for column in (TENANT, "document_id", "content_hash")]
            found = texts.filter(same).head(1).collect().to_dicts()[0]
            text = document_text(found.get("title"), found["text"])
            return Document(kind, newest[0], text, (signals, documents))
    if not may_read and any(tables.exists(signals) for signals, *_ in TABLES.values()):
        raise AccessDeniedError(f"role {asks.role} may not read texts")
    raise UnknownDocumentError(f"no decided page or message is called {name}")


def _seen(tables: Lakehouse, table: str, asks: Identity) -> pl.LazyFrame | None:
    """Return the part of a table that an identity sees."""
    visible = view(role(asks.role, asks.tenant), asks.tenant, table, tables.columns(table))
    if visible is None:
        return None
    rows = tables.scan(table).select(visible.columns)
    return rows if visible.tenant is None else rows.filter(pl.col(TENANT) == visible.tenant)
