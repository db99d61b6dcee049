"""Ad performance of some days, by campaign and by the signals of the page."""

from collections.abc import Sequence

import polars as pl

from platform_assets.reports.page import UNKNOWN
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse

EVENTS, SIGNALS = "gold/ad_performance_hourly", "gold/contextual_signals"
MEASURES = ("impressions", "viewable", "clicks", "conversions", "cost_usd", "revenue_usd")
CONTEXT = ("topic", "sentiment", "threat", "risk")
KEY = [DAY, "tenant_id", "campaign_id", "site", *CONTEXT]


def ad_performance(lakehouse: Lakehouse, days: Sequence[str]) -> pl.DataFrame:
    """Return ``MEASURES`` by ``KEY`` of some days."""
    return aggregate(lakehouse.scan(EVENTS, days)).collect()


def aggregate(hours: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``MEASURES`` by ``KEY`` for rows of gold/ad_performance_hourly."""
    rows = hours.rename({"iab_category_name": "topic"}).with_columns(pl.col(KEY[1:]).fill_null(UNKNOWN))
    return rows.group_by(KEY).agg(pl.col(MEASURES).sum().round(6)).sort(KEY)
