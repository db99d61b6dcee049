"""One row is one distinct event of an advertisement: shown, viewable, clicked or converted.

Of repeated deliveries the earliest counts; the others are quarantined, whatever their day. ``normalized_url`` is the
normalised URL of the page, ``document_id`` the document that this URL names. Money is in US dollars.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.aliases import Aliases
from platform_assets.bronze.ad_events import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.tables import Lakehouse
from signals.documents.urls import canonical_url, hostname

TABLE = "silver/ad_events"
INPUTS = (SCHEMA.table,)


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=["silver/pages"]))
def ad_events(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Name the page and site of each event."""
    write = start(context, lakehouse, TABLE, INPUTS)
    stage = partial(with_documents, time_column="event_time", aliases=Aliases(lakehouse))
    return write.publish(stage, write.read_deliveries(SCHEMA))


def with_documents(received: pl.DataFrame, time_column: str, aliases: Aliases) -> pl.DataFrame:
    """Return bronze rows about pages with normalized_url, document_id, site, time and tenant filled in."""
    urls = received.select(pl.col("url").drop_nulls().unique()).with_columns(
        normalized_url=pl.col("url").map_elements(canonical_url, return_dtype=pl.String),
        site=pl.col("url").map_elements(hostname, return_dtype=pl.String),
    )
    rows = received.join(urls, on="url", how="left", maintain_order="left").with_columns(
        pl.coalesce(time_column, "received_at").alias(time_column),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    return aliases.with_document_id(rows)
