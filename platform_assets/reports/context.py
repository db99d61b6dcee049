"""Ad performance of some days, by campaign and by the signals of the page, and its rates."""

from collections.abc import Sequence

import polars as pl

from platform_assets.reports.aggregates import ratio
from platform_assets.reports.page import Column
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from signals.risks import UNKNOWN

EVENTS, SIGNALS = "gold/ad_performance_hourly", "gold/contextual_signals"
MEASURES = ("impressions", "viewable", "clicks", "conversions", "cost_usd", "revenue_usd")
CONTEXT = ("topic", "sentiment", "threat", "risk")
KEY = [DAY, "tenant_id", "campaign_id", "site", *CONTEXT]


# Rates: numerator, denominator and scale.
RATES = {
    "viewability": ("viewable", "impressions", 1),
    "ctr": ("clicks", "impressions", 1),
    "conversion_rate": ("conversions", "clicks", 1),
    "cpm_usd": ("cost_usd", "impressions", 1000),
    "roas": ("revenue_usd", "cost_usd", 1),
}
RATE_COLUMNS = (
    Column("impressions", "Impressions", "count"),
    Column("viewability", "Viewability", "percent"),
    Column("ctr", "CTR", "percent"),
    Column("conversion_rate", "Conversion rate", "percent"),
    Column("cpm_usd", "CPM", "dollars"),
)
MONEY_COLUMNS = (
    Column("cost_usd", "Spend", "dollars"),
    Column("conversions", "Conversions", "count"),
    Column("revenue_usd", "Revenue", "dollars"),
    Column("roas", "ROAS", "decimal"),
)


def ad_performance(lakehouse: Lakehouse, days: Sequence[str]) -> pl.DataFrame:
    """Return ``MEASURES`` by ``KEY`` of some days."""
    return aggregate(lakehouse.scan(EVENTS, days)).collect()


def aggregate(hours: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``MEASURES`` by ``KEY`` for rows of gold/ad_performance_hourly."""
    rows = hours.rename({"iab_category_name": "topic"}).with_columns(pl.col(KEY[1:]).fill_null(UNKNOWN))
    return rows.group_by(KEY).agg(pl.col(MEASURES).sum().round(6)).sort(KEY)


def with_rates(rows: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return measures summed by some columns, with their rates; null where the denominator is zero."""
    summed = rows.group_by(by).agg(pl.col(MEASURES).sum().round(6))
    rates = {name: ratio(scale * pl.col(part), pl.col(whole)) for name, (part, whole, scale) in RATES.items()}
    return summed.with_columns(**{name: rate.round(6) for name, rate in rates.items()})


def rate(name: str) -> pl.Expr:
    """Return a rate as an aggregate."""
    part, whole, scale = RATES[name]
    return ratio(scale * pl.col(part).sum(), pl.col(whole).sum())
