"""One row is one fetch of a web page, reduced to its article.

Key: tenant_id, url and fetched_at. Grain: one fetch. ``document_id`` is the canonical address, which all fetches of a
page share; ``content_hash`` names title and text together. Owner: content.
"""

from collections.abc import Mapping

import dagster as dg
import polars as pl
import pyarrow as pa

from platform_assets.conventions import described
from platform_assets.publishing import begin
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse import Lakehouse
from signals.pages import ARTICLE, NOTHING, Article, Page, articles

TABLE = "silver/pages"
INPUTS = ("bronze/page_fetches",)
BATCH = 64
IS_IMAGE = pl.col("content_type").fill_null("").str.starts_with("image/")
BODY = pl.coalesce("body", pl.col("html").cast(pl.Binary))


@dg.asset(**described(TABLE, __doc__, owner="content", inputs=INPUTS, rules=True))
def pages(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> dg.MaterializeResult:
    """Extract the article of each fetched page."""
    hop = begin(context, lakehouse, TABLE, INPUTS)
    fetches = lakehouse.scan("bronze/page_fetches", hop.days).filter(~IS_IMAGE).collect()
    found = extracted(fetches)
    failed = pl.col("failure").is_not_null()
    broken = found.filter(failed).rename({"failure": "rule"})
    return hop.publish(found.filter(~failed).drop("failure"), broken=broken, rows_in=fetches.height)


def extracted(fetches: pl.DataFrame, known: Mapping[Page, Article] = NOTHING) -> pl.DataFrame:
    """Return fetches with the columns of ``signals.pages.ARTICLE`` in the place of what was fetched.

    Args:
        fetches: bronze/page_fetches.
        known: articles that have been extracted already, by address and body.

    Raises:
        ValueError: the extraction returned another number of rows.
    """
    rows = fetches.sort("received_at", "source", "position").with_columns(
        body=BODY,
        fetched_at=pl.coalesce("fetched_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    bodies = rows.select("url", "body").to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches(BATCH)
    found = pl.DataFrame(pa.Table.from_batches(articles(bodies, known), ARTICLE))
    kept = rows.select("url", "fetched_at", "tenant_id", "source", "position", "received_at", "event_date")
    return pl.concat([kept, found], how="horizontal", strict=True)
