"""The ad events of some days, added up by what was known of the page that each happened on."""

from collections.abc import Sequence

import polars as pl

from platform_assets.reports.page import UNKNOWN
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse

EVENTS, SIGNALS = "gold/ad_performance_hourly", "gold/contextual_signals"
MEASURES = ("impressions", "viewable", "clicks", "conversions", "cost_usd", "revenue_usd")
CONTEXT = ("topic", "sentiment", "threat", "risk")
KEY = [DAY, "tenant_id", "campaign_id", "site", *CONTEXT]


def beside(lakehouse: Lakehouse, days: Sequence[str]) -> pl.DataFrame:
    """Return what campaigns got on sites on these days, by topic, sentiment, threat and risk of the pages."""
    return added_up(lakehouse.scan(EVENTS, days)).collect()


def added_up(hours: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``MEASURES`` by ``KEY`` for rows of gold/ad_performance_hourly."""
    named = hours.rename({"iab_category_name": "topic"}).with_columns(pl.col(KEY[1:]).fill_null(UNKNOWN))
    return named.group_by(KEY).agg(pl.col(MEASURES).sum().round(6)).sort(KEY)
