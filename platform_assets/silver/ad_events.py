"""One row is one distinct event of an advertisement: shown, viewable, clicked or converted.

Key: event_id. Grain: one event; repeated deliveries are quarantined. Money in US dollars. Owner: ad-exchange.
"""

import dagster as dg
import polars as pl

from platform_assets.conventions import described
from platform_assets.publishing import begin
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse import Lakehouse
from signals.urls import address, site

TABLE = "silver/ad_events"
INPUTS = ("bronze/ad_events",)


@dg.asset(**described(TABLE, __doc__, owner="ad-exchange", inputs=INPUTS, rules=True))
def ad_events(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> dg.MaterializeResult:
    """Type the events and name the page and site that each happened on."""
    hop = begin(context, lakehouse, TABLE, INPUTS)
    received = lakehouse.read("bronze/ad_events", hop.days)
    return hop.publish(on_pages(received, "event_time"), rows_in=received.height)


def on_pages(received: pl.DataFrame, moment: str) -> pl.DataFrame:
    """Return bronze rows about pages with document_id, site, time and tenant filled in, earliest delivery first."""
    urls = received.select(pl.col("url").drop_nulls().unique()).with_columns(
        document_id=pl.col("url").map_elements(address, return_dtype=pl.String),
        site=pl.col("url").map_elements(site, return_dtype=pl.String),
    )
    return (
        received.join(urls, on="url", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce(moment, "received_at").alias(moment),
            tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
        )
        .sort("received_at", "source", "position")
    )
