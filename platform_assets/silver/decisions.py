"""One row is one answer of one model to one task about one document, with its provenance.

Key: decision_id, which is made from tenant, document, content, day, task and model version. Grain: one document, day,
task and model version: an unchanged page that is fetched on another day is decided again. Answers are facts: a new
model adds rows, and never changes one. Where other versions come to answer, by promotion, rollback or a trial, they are
asked about the documents of the last week too. An answer stays where its document has given way to an earlier delivery
of the same record. Owner: ml.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial

import dagster as dg
import polars as pl
import pyarrow as pa

from platform_assets.conventions import described
from platform_assets.publishing import accounted_for, begin, quarantine, transformed
from platform_assets.silver.embeddings import vectors
from resources.encoder import Encoder
from resources.lakehouse import DAY, PLACE, Lakehouse, fingerprint
from resources.registry import Registry
from signals.scoring import ASKED_ABOUT, DECISION, DOCUMENT, Model, score
from signals.tasks import TASKS
from signals.traffic import Traffic, arm, in_share

TABLE = "silver/decisions"
DOCUMENTS = {"page": "silver/pages", "message": "silver/messages", "image": "silver/images"}
INPUTS = tuple(DOCUMENTS.values())
MODELS = tuple(f"models/{task}" for task in TASKS)
BATCH = 2_048
NO_VECTORS = pl.LazyFrame(schema={"content_hash": pl.String, "vector": pl.List(pl.Float32)})
# Begins the name under which the table keeps which versions a day's documents were asked of.
ASKED = "asked:"
# Of documents older than this, consumers keep the answers that they had.
ASKED_AGAIN = timedelta(days=7)


@dg.asset(**described(TABLE, __doc__, owner="ml", inputs=INPUTS, deps=["silver/embeddings", *MODELS]))
def decisions(
    context: dg.AssetExecutionContext, lakehouse: Lakehouse, encoder: Encoder, registry: Registry
) -> dg.MaterializeResult:
    """Ask the champion of every task about each document of these days, and challengers about their share."""
    hop = begin(context, lakehouse, TABLE, INPUTS)
    models = serving(registry.under(encoder.digest), encoder.transform_id)
    rows_in, rows_quarantined, parts = 0, 0, []
    for kind, table in DOCUMENTS.items():
        documents = pending(lakehouse, kind, hop.days, encoder)
        rows_in += documents.height
        version = lakehouse.version(table)
        found, broken = decided(documents, models, input_table=table, input_version=version, run_id=context.run_id)
        quarantine(lakehouse, TABLE, broken)
        rows_quarantined += broken.height
        parts.append(found)
    answers = pl.concat(parts)
    marks = {**hop.marks, **{f"{ASKED}{day}": answering(models.traffic) for day in hop.days}}
    answered = lakehouse.insert_missing(TABLE, answers, ["decision_id"], days=hop.days, marks=marks)
    known = lakehouse.scan(TABLE, hop.days).select("decision_id").collect()["decision_id"]
    stored = int(answers["decision_id"].is_in(known.implode()).sum())
    return hop.result(
        {
            "rows_in": rows_in,
            "rows_decided": answered,
            "rows_quarantined": rows_quarantined,
            "models": {t: m.version for t, m in models.champions.items()},
        },
        rows_out=lakehouse.count(TABLE),
        check_results=[accounted_for(stored == answers.height, documents=rows_in, asked=answers.height, stored=stored)],
    )


@dataclass(frozen=True)
class Serving:
    """The models that are asked, ready to score.

    Attributes:
        traffic: which versions answer each task that has a champion.
        champions: by the task's name.
        challengers: of the tasks that have one.
    """

    traffic: Mapping[str, Traffic]
    champions: Mapping[str, Model]
    challengers: Mapping[str, Model] = field(default_factory=dict)


def serving(registry: Registry, running: str) -> Serving:
    """Return the models that are asked now; a task that has no champion is not asked.

    Raises:
        TransformMismatchError: one was trained under another transformation.
        TamperedModelError: its files are not those that were registered.
    """
    traffic = registry.traffic()

    def loaded(versions: Mapping[str, int | None]) -> dict[str, Model]:
        return {
            task: registry.load(registry.version(task, version), running)
            for task, version in versions.items()
            if version is not None
        }

    champions = loaded({task: traffic[task].champion for task in TASKS if task in traffic})
    return Serving(traffic, champions, loaded({task: traffic[task].challenger for task in champions}))


def answering(traffic: Mapping[str, Traffic]) -> int:
    """Return a number that names which versions answer."""
    return fingerprint(f"{task}:{of.champion}:{of.challenger}:{of.share}" for task, of in sorted(traffic.items()))


def unasked(lakehouse: Lakehouse, traffic: Mapping[str, Traffic], today: date) -> list[str]:
    """Return the days of the last week whose documents have not been asked of the versions that answer now."""
    kept, now = lakehouse.positions(TABLE), answering(traffic)
    days = {date.fromisoformat(day) for table in INPUTS for day in lakehouse.days(table)}
    recent = sorted(str(day) for day in days if today - ASKED_AGAIN < day <= today)
    return [day for day in recent if kept.get(f"{ASKED}{day}", (None, 0))[0] != now]


def pending(lakehouse: Lakehouse, kind: str, days: Sequence[str], encoder: Encoder) -> pl.DataFrame:
    """Return the distinct documents of a kind and of these days, in the shape of ``signals.scoring.DOCUMENT``."""
    rows = lakehouse.scan(DOCUMENTS[kind], days)
    if kind == "image":
        return documents_of(kind, rows, NO_VECTORS)
    texts = rows.select("content_hash", DAY, text=text_of(kind)).collect()
    return documents_of(kind, rows, vectors(lakehouse, encoder, texts).lazy())


def documents_of(kind: str, rows: pl.LazyFrame, vectors: pl.LazyFrame) -> pl.DataFrame:
    """Return the distinct documents among rows of a kind's table, in the shape of ``signals.scoring.DOCUMENT``.

    Args:
        kind: page, message or image.
        rows: of the kind's table in silver.
        vectors: content_hash and vector of their texts.
    """
    empty = {
        "text": pl.lit(None, pl.String),
        "vector": pl.lit(None, pl.List(pl.Float32)),
        "body": pl.lit(None, pl.Binary),
    }
    if kind == "image":
        texts = rows.with_columns(text=empty["text"], vector=empty["vector"])
    else:
        texts = rows.with_columns(text=text_of(kind), body=empty["body"]).join(vectors, on="content_hash", how="left")
    found = texts.with_columns(kind=pl.lit(kind)).select(*DOCUMENT.names, *PLACE, "received_at").collect()
    return found.sort(ASKED_ABOUT).unique(ASKED_ABOUT, keep="first", maintain_order=True)


def text_of(kind: str) -> pl.Expr:
    """Return what a model reads of a page, title and text, or of a message."""
    title = [pl.col("title")] if kind == "page" else []
    return pl.concat_str(*title, "text", separator="\n", ignore_nulls=True)


def decided(
    documents: pl.DataFrame,
    models: Serving,
    *,
    input_table: str,
    input_version: int,
    run_id: str,
    served_by: str = "batch",
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the answers about documents, of champions and of challengers, with where they came from.

    Documents on which a model raises are returned beside them, as ``platform_assets.publishing.shown``.
    """
    answers, broken = transformed(partial(_answers, models=models), documents)
    return answers.with_columns(
        input_table=pl.lit(input_table),
        input_version=pl.lit(input_version, pl.Int64),
        run_id=pl.lit(run_id),
        served_by=pl.lit(served_by),
        traffic_arm=arm(models.traffic),
        decided_at=pl.lit(datetime.now(UTC), pl.Datetime("us", "UTC")),
    ), broken


def _answers(documents: pl.DataFrame, models: Serving) -> pl.DataFrame:
    parts = [_scored(documents, models.champions)]
    for task, challenger in models.challengers.items():
        share = models.traffic[task].share
        parts.append(_scored(documents.filter(in_share(share)) if share else documents, {task: challenger}))
    return pl.concat(parts)


def _scored(documents: pl.DataFrame, models: Mapping[str, Model]) -> pl.DataFrame:
    return pl.DataFrame(pa.Table.from_batches(score(_batches(documents), models), DECISION))


def _batches(documents: pl.DataFrame) -> Iterator[pa.RecordBatch]:
    table = documents.select(DOCUMENT.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(DOCUMENT)
    yield from table.to_batches(BATCH)
