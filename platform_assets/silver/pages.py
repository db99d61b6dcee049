"""One row is one fetch of a web page, reduced to its article.

``normalized_url`` is the fetched URL, normalised. ``document_id`` is the canonical URL, which all fetches of a page
share. ``content_hash`` names title and text together.
"""

from collections.abc import Mapping
from functools import partial

import dagster as dg
import polars as pl
import pyarrow as pa

from platform_assets.bronze.page_fetches import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.parsing import declared
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.tables import Lakehouse
from resources.workers import pages as page_workers
from signals.documents.pages import ARTICLE, FETCH, NOTHING, Article, Fetch, articles
from signals.documents.urls import canonical_url

TABLE = "silver/pages"
INPUTS = (SCHEMA.table,)
BATCH = 64
# A fetched image; an HTTP error is a failed page fetch, whatever its media type.
IS_IMAGE = pl.col("content_type").fill_null("").str.strip_chars().str.to_lowercase().str.starts_with("image/") & (
    pl.col("http_status").fill_null(200).is_between(200, 299)
)


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def pages(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Extract the article of each fetched page."""
    write = start(context, lakehouse, TABLE, INPUTS)
    fetches = declared(lakehouse.read(SCHEMA.table, write.days), SCHEMA)
    received = fetches.filter(~IS_IMAGE)
    return write.publish(partial(extracted, known=page_workers.extract(fetches_of(received))), received)


def extracted(fetches: pl.DataFrame, known: Mapping[Fetch, Article] = NOTHING) -> pl.DataFrame:
    """Return fetches with normalized_url and the columns of ``ARTICLE`` in place of the page's bytes.

    ``rule`` names why a page has no article.

    Args:
        fetches: bronze/page_fetches.
        known: articles that were extracted ahead, by their fetch.

    Raises:
        ValueError: the extraction returned a different number of rows.
    """
    rows = dated(fetches).with_columns(
        normalized_url=pl.col("url").map_elements(canonical_url, return_dtype=pl.String),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    batches = rows.select(FETCH).to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches(BATCH)
    extracted_articles = pl.DataFrame(pa.Table.from_batches(articles(batches, known), ARTICLE))
    provenance = rows.select(
        "url", "normalized_url", "fetched_at", "tenant_id", "source", "position", "received_at", "event_date"
    )
    return pl.concat([provenance, extracted_articles.rename({"failure": "rule"})], how="horizontal", strict=True)


def fetches_of(received: pl.DataFrame) -> list[Fetch]:
    """Return the distinct page fetches, each with all that its article depends on."""
    rows = dated(received.filter(~IS_IMAGE)).select(FETCH).unique(maintain_order=True)
    return [Fetch(**row) for row in rows.iter_rows(named=True)]


def dated(fetches: pl.DataFrame) -> pl.DataFrame:
    """Return fetches with ``fetched_at`` filled in: the time of receipt where it is missing."""
    return fetches.with_columns(fetched_at=pl.coalesce("fetched_at", "received_at"))
