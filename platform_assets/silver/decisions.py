"""One row is one decision: the answer of one model to one task about one document on one day, with its provenance.

``abstention`` says why there is no answer: the text is empty, or in a language that the model was not measured on, or
the model is not sure, and then its scores are there.
An unchanged page that is fetched on another day is decided again. Decisions are facts: a new model adds rows, and never
changes one. After a promotion, a rollback or the start of a trial, the versions that now answer also decide the
documents of the last week. A decision stays where its document is superseded by an earlier delivery of the same record.
Those of the API are added as it made them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pyarrow as pa

from platform_assets.bronze import api_decisions
from platform_assets.conventions import table_spec
from platform_assets.parsing import declared
from platform_assets.publishing import accounted_check, apply_stage, quarantine, start
from platform_assets.silver.embeddings import vectors
from resources import transform_bundles
from resources.encoder import Encoder
from resources.instruction_set import instruction_set
from resources.lakehouse.checkpoints import SCORED_BY
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import fingerprint
from resources.lakehouse.tables import PLACE, Lakehouse
from resources.registry.models import Registry
from resources.serving_models import serving
from signals.classify import ASKED_ABOUT, DECISION, DOCUMENT, Models, classify
from signals.tasks import TASKS
from signals.traffic import Traffic

TABLE = "silver/decisions"
DOCUMENTS = {"page": "silver/pages", "message": "silver/messages", "image": "silver/images"}
INPUTS = (*DOCUMENTS.values(), api_decisions.SCHEMA.table)
MODELS = tuple(f"models/{task}" for task in TASKS)
# What is told of a decision beside what a model says.
PROVENANCE = {
    "input_table": pl.String,
    "input_version": pl.Int64,
    "run_id": pl.String,
    "served_by": pl.String,
    "instruction_set": pl.String,
    "decided_at": pl.Datetime("us", "UTC"),
}
SCHEMA = {**pl.DataFrame(DECISION.empty_table()).schema, **PROVENANCE}
# Without these, a row is no decision.
REQUIRED = ("decision_id", "document_id", "tenant_id", "task", "model_name", "model_version", "event_date")
BATCH = 2_048
NO_VECTORS = pl.DataFrame(schema={"content_hash": pl.String, "vector": pl.List(pl.Float32)})
# Older documents keep their former decisions when other versions come to answer.
REDECIDED = timedelta(days=7)


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=["silver/embeddings", *MODELS]))
def decisions(
    context: dg.AssetExecutionContext,
    lakehouse: dg.ResourceParam[Lakehouse],
    encoder: dg.ResourceParam[Encoder],
    registry: dg.ResourceParam[Registry],
) -> dg.MaterializeResult:
    """Decide each document of these days by the champion of every task, and by challengers within their share."""
    write = start(context, lakehouse, TABLE, INPUTS)
    models = serving(registry, encoder).models
    rows_in, rows_quarantined, parts = 0, 0, []
    for kind, table in DOCUMENTS.items():
        documents = read_documents(lakehouse, kind, write.days, encoder)
        rows_in += documents.height
        answers, broken = decided(
            documents, models, encoder, input_table=table, input_version=lakehouse.version(table), run_id=context.run_id
        )
        quarantine(lakehouse, TABLE, broken)
        rows_quarantined += broken.height
        parts.append(answers)
    of_api = declared(lakehouse.read(api_decisions.SCHEMA.table, write.days), api_decisions.SCHEMA)
    rows_in += of_api.height
    from_api, broken = apply_stage(answered_by_api, of_api)
    quarantine(lakehouse, TABLE, broken)
    rows_quarantined += broken.height
    answers = pl.concat([*parts, from_api])
    transform_bundles.keep(lakehouse, encoder)
    checkpoints = {
        **write.checkpoints,
        **{SCORED_BY.name(day): traffic_fingerprint(models.traffic) for day in write.days},
    }
    inserted = lakehouse.insert_missing(TABLE, answers, ["decision_id"], days=write.days, checkpoints=checkpoints)
    stored_ids = lakehouse.scan(TABLE, write.days).select("decision_id").collect()["decision_id"]
    stored = int(answers["decision_id"].is_in(stored_ids.implode()).sum())
    counts = {"rows_in": rows_in, "rows_decided": inserted, "rows_quarantined": rows_quarantined}
    versions = {task: model.version for task, model in models.champions.items()}
    check = accounted_check(stored == answers.height, documents=rows_in, asked=answers.height, stored=stored)
    return write.result({**counts, "models": versions}, rows_out=lakehouse.count(TABLE), check_results=[check])


def answered_by_api(received: pl.DataFrame) -> pl.DataFrame:
    """Return the decisions that rows of bronze/api_decisions hold; the first of each counts.

    Raises:
        PolarsError: a row holds something else.
    """
    as_text = {"event_date": pl.String, "decided_at": pl.String}
    rows = received["decision"].str.json_decode(pl.Struct({**SCHEMA, **as_text})).struct.unnest()
    moment = pl.col("decided_at").str.to_datetime(time_unit="us", time_zone="UTC")
    day = pl.col("event_date").str.to_date("%Y-%m-%d")
    typed = rows.with_columns(day, moment, received["instruction_set"]).select(*SCHEMA)
    if typed.select(pl.any_horizontal(pl.col(REQUIRED).is_null().any())).item():
        raise ValueError("a decision lacks what names it")
    return typed


def traffic_fingerprint(traffic: Mapping[str, Traffic]) -> int:
    """Return a number that identifies which versions answer."""
    return fingerprint(
        f"{task}:{arms.champion}:{arms.challenger}:{arms.share}" for task, arms in sorted(traffic.items())
    )


def outdated_days(lakehouse: Lakehouse, traffic: Mapping[str, Traffic], today: date) -> list[str]:
    """Return the days of the last week whose documents the versions that answer now have not decided."""
    decided_by, current = SCORED_BY.matching(lakehouse.checkpoints(TABLE)), traffic_fingerprint(traffic)
    days = {date.fromisoformat(day) for table in DOCUMENTS.values() for day in lakehouse.days(table)}
    recent = sorted(str(day) for day in days if today - REDECIDED < day <= today)
    return [day for day in recent if decided_by.get(day) != current]


def read_documents(lakehouse: Lakehouse, kind: str, days: Sequence[str], encoder: Encoder) -> pl.DataFrame:
    """Return the distinct documents of a kind and of these days, in the shape of ``signals.classify.DOCUMENT``."""
    rows = lakehouse.scan(DOCUMENTS[kind], days)
    if kind == "image":
        return documents_of(kind, rows.collect())
    texts = rows.select(*({"title", "text"} & {*rows.collect_schema()}), "content_hash", DAY).collect()
    return documents_of(kind, rows.collect(), vectors(lakehouse, encoder, texts))


def documents_of(kind: str, rows: pl.DataFrame, vectors: pl.DataFrame = NO_VECTORS) -> pl.DataFrame:
    """Return the distinct documents matching rows of a kind's table, in the shape of ``signals.classify.DOCUMENT``.

    Args:
        kind: page, message or image.
        rows: of the kind's table in silver.
        vectors: content_hash and vector of their texts; a text without one is encoded when it is decided.
    """
    documents = rows.join(vectors, on="content_hash", how="left").with_columns(kind=pl.lit(kind))
    empty = {"title": pl.String, "text": pl.String, "language": pl.String, "body": pl.Binary}
    missing = {name: pl.lit(None, dtype) for name, dtype in empty.items() if name not in documents.columns}
    documents = documents.with_columns(**missing).select(*DOCUMENT.names, *PLACE, "received_at")
    return documents.sort(ASKED_ABOUT).unique(ASKED_ABOUT, keep="first", maintain_order=True)


def decided(
    documents: pl.DataFrame,
    models: Models,
    encoder: Encoder,
    *,
    input_table: str,
    input_version: int,
    run_id: str,
    served_by: str = "batch",
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the decisions of champions and challengers about documents, with their provenance.

    Beside them: the documents on which a model raises, as ``platform_assets.publishing.BROKEN_ROWS``.
    """

    def answers_about(documents: pl.DataFrame) -> pl.DataFrame:
        table = documents.select(DOCUMENT.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(DOCUMENT)
        return pl.DataFrame(pa.Table.from_batches(classify(table.to_batches(BATCH), models, encoder), DECISION))

    answers, broken = apply_stage(answers_about, documents)
    return answers.with_columns(
        input_table=pl.lit(input_table),
        input_version=pl.lit(input_version, pl.Int64),
        run_id=pl.lit(run_id),
        served_by=pl.lit(served_by),
        instruction_set=pl.lit(instruction_set()),
        decided_at=pl.lit(datetime.now(UTC), pl.Datetime("us", "UTC")),
    ), broken
