"""One row is one event of an advertisement: shown, viewable, clicked, converted.

Money is in US dollars.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/ad_events",
    folder="ad_events",
    topic="ad-events",
    columns={
        "event_id": pl.String,
        "event_type": pl.String,
        "event_time": TIME,
        "impression_id": pl.String,
        "campaign_id": pl.String,
        "creative_id": pl.String,
        "placement_id": pl.String,
        "url": pl.String,
        "user_id": pl.String,
        "cost_usd": pl.Float64,
        "revenue_usd": pl.Float64,
        "tenant_id": pl.String,
    },
    key="event_id",
    event_time="event_time",
    allowed={"event_type": frozenset({"impression", "viewable", "click", "conversion"})},
)

ad_events = bronze_asset(__doc__, SCHEMA)
