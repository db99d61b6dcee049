"""One row is one label of one task, with the labelled text.

Labels of undeclared tasks are kept too: the task may be declared later, or another task may learn from them. ``split``
is ``train`` or ``val``; without one, a fifth of the texts is held out by their hash.
"""

from collections.abc import Collection
from functools import partial

import dagster as dg
import polars as pl

from platform_assets.bronze.review_labels import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT, join_by_tenant
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from signals.classify import DOCUMENT_KEY
from signals.documents.languages import languages_of
from signals.documents.text import document_texts, normal_forms
from signals.documents.urls import canonical_url
from signals.splits import held_out
from signals.tasks import TASKS

TABLE = "silver/labels"
INPUTS = (SCHEMA.table,)


@dg.asset(
    **table_spec(
        TABLE,
        __doc__,
        inputs=INPUTS,
        deps=["silver/pages", "silver/messages", "silver/images"],
    )
)
def labels(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Find the text of each label."""
    write = start(context, lakehouse, TABLE, INPUTS)
    received = write.read_deliveries(SCHEMA)
    return write.publish(partial(resolved, documents=labelled_documents(lakehouse, received)), received)


def labels_in(lakehouse: Lakehouse, languages: Collection[str] | None) -> pl.DataFrame:
    """Return the labels of texts in some languages, or of any if None; a text that shows none counts as one of them."""
    language = pl.col("language")
    rows = lakehouse.scan(TABLE)
    return (rows if languages is None else rows.filter(language.is_null() | language.is_in(languages))).collect()


def labelled_documents(lakehouse: Lakehouse, received: pl.DataFrame) -> pl.DataFrame:
    """Return the newest version of each document that labels may refer to, by each of its names.

    Returns:
        name, tenant_id, document_id, content_hash and text; the newest last. A page has two names: its canonical URL
        and the normalised URL of its fetch.
    """
    ids = received["document_id"].drop_nulls().unique()
    names = pl.concat([ids, ids.map_elements(canonical_url, return_dtype=pl.String)]).unique()
    at = pl.col("fetched_at").alias("at")

    def named(table: str, column: str) -> pl.LazyFrame:
        return KeyIndex(lakehouse, table, [column]).scan(names.alias(column).to_frame())

    parts = [
        named("silver/pages", "document_id").select(*DOCUMENT_KEY, at, "title", "text", name="document_id"),
        named("silver/pages", "normalized_url").select(*DOCUMENT_KEY, at, "title", "text", name="normalized_url"),
        named("silver/messages", "document_id").select(*DOCUMENT_KEY, "text", at="sent_at", name="document_id"),
        named("silver/images", "document_id").select(*DOCUMENT_KEY, at, text=pl.lit(""), name="document_id"),
    ]
    documents = pl.concat(parts, how="diagonal").collect()
    # A document's own id takes precedence over the URL of another's fetch.
    own = pl.col("name") == pl.col("document_id")
    newest = documents.sort(own, "at", "content_hash").unique(["tenant_id", "name"], keep="last", maintain_order=True)
    texts = pl.Series(document_texts(newest["title"], newest["text"]), dtype=pl.String)
    return newest.with_columns(text=texts).sort("at", "content_hash").drop("at", "title")


def resolved(received: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Return labels with text and content_hash, and ``rule`` where a label cannot be used.

    Args:
        received: bronze/review_labels.
        documents: see ``labelled_documents``.
    """
    normal, hashes = normal_forms(received["text"])
    rows = received.with_columns(
        name=pl.col("document_id").map_elements(_document_name, return_dtype=pl.String),
        own_text=pl.Series(normal, dtype=pl.String),
        own_hash=pl.Series(hashes, dtype=pl.String),
        has_text=pl.col("text").is_not_null(),
    ).drop("text", "document_id")
    rows = _join_documents(rows, documents).with_columns(
        text=pl.when("has_text").then("own_text").otherwise("text"),
        content_hash=pl.when("has_text").then("own_hash").otherwise("content_hash"),
        document_id=pl.coalesce("document_id", "name"),
        labelled_at=pl.coalesce("labelled_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    codes, _ = languages_of(rows["text"].fill_null(""), rows["language"])
    task_labels = pl.concat_str("task", "label", separator="\x1f")
    declared = [f"{task.name}\x1f{label}" for task in TASKS.values() for label in task.labels]
    return rows.with_columns(
        language=pl.Series(codes, dtype=pl.String),
        split=pl.coalesce("split", pl.when(held_out()).then(pl.lit("val")).otherwise(pl.lit("train"))),
        rule=pl.when(pl.col("task").is_in(list(TASKS)) & ~task_labels.is_in(declared))
        .then(pl.lit("unknown_label"))
        .when(pl.col("document_id").is_null() & ~pl.col("has_text"))
        .then(pl.lit("names_no_document"))
        .when(pl.col("content_hash").is_null())
        .then(pl.lit("document_unknown"))
        .when(pl.col("has_text") & (pl.col("text") == ""))
        .then(pl.lit("text_empty")),
    ).drop("name", "own_text", "own_hash", "has_text")


def _join_documents(rows: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Return labels beside the content_hash and text of their documents.

    A label of a tenant is about the tenant's own document, or one of the default tenant. A label without a tenant is
    about the newest document of that name, and takes its tenant.
    """
    has_tenant = pl.col("tenant_id").is_not_null()
    newest = documents.unique("name", keep="last", maintain_order=True)
    without_tenant = rows.filter(~has_tenant).drop("tenant_id").join(newest, on="name", how="left")
    return pl.concat([join_by_tenant(rows.filter(has_tenant), documents, "name"), without_tenant], how="diagonal")


def _document_name(document_id: str) -> str:
    """Return the name of a document: of pages and images their canonical URL, of messages their id."""
    return canonical_url(document_id) if "://" in document_id else document_id
