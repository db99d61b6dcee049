"""One row is one hourly snapshot of a placement: impressions on offer, and impressions filled.

Sizes are in pixels, the floor price in US dollars per thousand. ``exchange`` (a domain) and ``seller_id`` (the account
there) name the seller, if known.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/inventory",
    folder="inventory",
    topic="inventory",
    columns={
        "snapshot_id": pl.String,
        "observed_at": TIME,
        "url": pl.String,
        "placement_id": pl.String,
        "format": pl.String,
        "width": pl.Int64,
        "height": pl.Int64,
        "floor_cpm_usd": pl.Float64,
        "avails": pl.Int64,
        "filled": pl.Int64,
        "exchange": pl.String,
        "seller_id": pl.String,
        "tenant_id": pl.String,
    },
    key="snapshot_id",
    event_time="observed_at",
    allowed={"format": frozenset({"banner", "video", "native", "audio"})},
)

inventory = bronze_asset(__doc__, SCHEMA)
