"""The ad events of some days, added up by what is known of the page that each happened on."""

from collections.abc import Sequence

import polars as pl

from platform_assets.reports.page import UNKNOWN
from resources.lakehouse import DAY, Lakehouse

EVENTS, SIGNALS = "silver/ad_events", "gold/contextual_signals"
# The kinds of event and what counts them.
COUNTS = {"impression": "impressions", "viewable": "viewable", "click": "clicks", "conversion": "conversions"}
MEASURES = (*COUNTS.values(), "cost_usd", "revenue_usd")
CONTEXT = ("topic", "sentiment", "threat", "risk")
KEY = [DAY, "tenant_id", "campaign_id", "site", *CONTEXT]


def beside(lakehouse: Lakehouse, days: Sequence[str]) -> pl.DataFrame:
    """Return what campaigns got on sites on these days, by topic, sentiment, threat and risk of the pages."""
    return added_up(lakehouse.scan(EVENTS, days), lakehouse.scan(SIGNALS)).collect()


def added_up(events: pl.LazyFrame, signals: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``MEASURES`` by ``KEY``.

    Args:
        events: silver/ad_events.
        signals: gold/contextual_signals; a page's newest count, whenever it was fetched.
    """
    of = pl.col("event_type")
    counts = {name: (of == event).sum().cast(pl.Int64) for event, name in COUNTS.items()}
    money = {name: pl.col(name).sum() for name in ("cost_usd", "revenue_usd")}
    newest = signals.sort("fetched_at", "url", "tenant_id").unique("document_id", keep="last")
    known = newest.select("document_id", *CONTEXT[1:], topic="iab_category_name")
    by_page = events.group_by(*KEY[:4], "document_id").agg(**counts, **money)
    told = by_page.join(known, on="document_id", how="left").with_columns(pl.col(KEY[1:]).fill_null(UNKNOWN))
    return told.group_by(KEY).agg(pl.col(MEASURES).sum().round(6)).sort(KEY)
