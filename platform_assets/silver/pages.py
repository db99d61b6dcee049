"""One row is one fetch of a web page, reduced to its article.

Key: tenant_id, url and fetched_at. Grain: one fetch. ``address`` is where it was fetched, ``document_id`` the canonical
address, which all fetches of a page share; ``content_hash`` names title and text together. Owner: content.
"""

from collections.abc import Mapping

import dagster as dg
import polars as pl
import pyarrow as pa

from platform_assets.bronze.page_fetches import EXPECTED
from platform_assets.conventions import described
from platform_assets.publishing import begin
from platform_assets.records import declared
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse import Lakehouse
from signals.pages import ARTICLE, NOTHING, Article, Page, address, articles

TABLE = "silver/pages"
INPUTS = (EXPECTED.table,)
BATCH = 64
IS_IMAGE = pl.col("content_type").fill_null("").str.starts_with("image/")
BODY = pl.coalesce("body", pl.col("html").cast(pl.Binary))


@dg.asset(**described(TABLE, __doc__, owner="content", inputs=INPUTS, rules=True))
def pages(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> dg.MaterializeResult:
    """Extract the article of each fetched page."""
    hop = begin(context, lakehouse, TABLE, INPUTS)
    fetches = lakehouse.scan(EXPECTED.table, hop.days).filter(~IS_IMAGE).collect()
    return hop.publish(extracted, declared(fetches, EXPECTED))


def extracted(fetches: pl.DataFrame, known: Mapping[Page, Article] = NOTHING) -> pl.DataFrame:
    """Return fetches with address and the columns of ``signals.pages.ARTICLE`` in the place of what was fetched.

    ``rule`` names what kept a page from being read.

    Args:
        fetches: bronze/page_fetches.
        known: articles that have been extracted already, by address and body.

    Raises:
        ValueError: the extraction returned another number of rows.
    """
    rows = fetches.with_columns(
        body=BODY,
        address=pl.col("url").map_elements(address, return_dtype=pl.String),
        fetched_at=pl.coalesce("fetched_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    bodies = rows.select("url", "body").to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches(BATCH)
    found = pl.DataFrame(pa.Table.from_batches(articles(bodies, known), ARTICLE))
    kept = rows.select("url", "address", "fetched_at", "tenant_id", "source", "position", "received_at", "event_date")
    return pl.concat([kept, found.rename({"failure": "rule"})], how="horizontal", strict=True)
