"""One row is one answer to one task, with the text that it was given for.

Labels of tasks that nobody has declared are kept too: the task may come later, or another may learn from them.
``split`` is ``train`` or ``val``; where a source gives none, a fifth is held out by the text's hash.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.bronze.review_labels import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT, join_by_tenant
from resources.lakehouse.tables import Lakehouse
from signals.classify import DOCUMENT_KEY
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
    """Find the text that each label speaks of."""
    write = start(context, lakehouse, TABLE, INPUTS)
    received = write.read_deliveries(SCHEMA)
    return write.publish(partial(resolved, found=documents(lakehouse, received)), received)


def documents(lakehouse: Lakehouse, received: pl.DataFrame) -> pl.DataFrame:
    """Return what labels may mean: the newest version of each document, by each name that it has.

    Returns:
        name, tenant_id, document_id, content_hash and text. A page has two names, its own address and that where it
        was fetched. Of what several organisations hold, the newest comes last.
    """
    named = received["document_id"].drop_nulls().unique()
    wanted = pl.concat([named, named.map_elements(canonical_url, return_dtype=pl.String)]).unique().implode()
    pages, at = lakehouse.scan("silver/pages"), pl.col("fetched_at").alias("at")
    parts = [
        pages.select(*DOCUMENT_KEY, at, "title", "text", name="document_id"),
        pages.select(*DOCUMENT_KEY, at, "title", "text", name="normalized_url"),
        lakehouse.scan("silver/messages").select(*DOCUMENT_KEY, "text", at="sent_at", name="document_id"),
        lakehouse.scan("silver/images").select(*DOCUMENT_KEY, at, text=pl.lit(""), name="document_id"),
    ]
    found = pl.concat(parts, how="diagonal").filter(pl.col("name").is_in(wanted)).collect()
    # A document's own name comes before another's address.
    own = pl.col("name") == pl.col("document_id")
    newest = found.sort(own, "at", "content_hash").unique(["tenant_id", "name"], keep="last", maintain_order=True)
    texts = pl.Series(document_texts(newest["title"], newest["text"]), dtype=pl.String)
    return newest.with_columns(text=texts).sort("at", "content_hash").drop("at", "title")


def resolved(received: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Return labels with text and content_hash, and ``rule`` where they cannot be used.

    Args:
        received: bronze/review_labels.
        found: what ``documents`` returned.
    """
    normal, hashes = normal_forms(received["text"])
    rows = received.with_columns(
        name=pl.col("document_id").map_elements(_known_as, return_dtype=pl.String),
        own_text=pl.Series(normal, dtype=pl.String),
        own_hash=pl.Series(hashes, dtype=pl.String),
        carries=pl.col("text").is_not_null(),
    ).drop("text", "document_id")
    rows = _beside(rows, found).with_columns(
        text=pl.when("carries").then("own_text").otherwise("text"),
        content_hash=pl.when("carries").then("own_hash").otherwise("content_hash"),
        document_id=pl.coalesce("document_id", "name"),
        labelled_at=pl.coalesce("labelled_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    answers = pl.concat_str("task", "label", separator="\x1f")
    declared = [f"{task.name}\x1f{label}" for task in TASKS.values() for label in task.labels]
    return rows.with_columns(
        split=pl.coalesce("split", pl.when(held_out()).then(pl.lit("val")).otherwise(pl.lit("train"))),
        rule=pl.when(pl.col("task").is_in(list(TASKS)) & ~answers.is_in(declared))
        .then(pl.lit("unknown_label"))
        .when(pl.col("document_id").is_null() & ~pl.col("carries"))
        .then(pl.lit("names_no_document"))
        .when(pl.col("content_hash").is_null())
        .then(pl.lit("document_unknown"))
        .when(pl.col("carries") & (pl.col("text") == ""))
        .then(pl.lit("text_empty")),
    ).drop("name", "own_text", "own_hash", "carries")


def _beside(rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Return labels beside the content_hash and text of the document that each is about.

    A label of an organisation is about a document of its own, or about one that is nobody's in particular. One that
    does not say whose it is, is about the newest of that name, and of the organisation that holds that.
    """
    whose = pl.col("tenant_id").is_not_null()
    newest = found.unique("name", keep="last", maintain_order=True)
    others = rows.filter(~whose).drop("tenant_id").join(newest, on="name", how="left")
    return pl.concat([join_by_tenant(rows.filter(whose), found, "name"), others], how="diagonal")


def _known_as(document_id: str) -> str:
    """Pages and images are known by their canonical address, messages by their id."""
    return canonical_url(document_id) if "://" in document_id else document_id
