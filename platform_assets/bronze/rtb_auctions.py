"""One row is one real-time auction: its OpenRTB 2.6 request, the bids on it, and who won.

``request`` and ``bids`` are JSON; a bid may have ``bidder``, ``status``, ``no_bid_reason``, ``latency_ms``,
``price_cpm`` and its currency ``cur``, or ``price_cpm_usd``. ``clearing_price_cpm_usd`` is in US dollars per thousand.
``market_price`` comes from sources that state no unit.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/rtb_auctions",
    folder="rtb_auctions",
    topic="rtb-auctions",
    columns={
        "auction_id": pl.String,
        "auction_time": TIME,
        "request": pl.String,
        "bids": pl.String,
        "winner": pl.String,
        "clearing_price_cpm_usd": pl.Float64,
        "market_price": pl.Float64,
        "tenant_id": pl.String,
    },
    key="auction_id",
    event_time="auction_time",
    nested=frozenset({"request", "bids"}),
)

rtb_auctions = bronze_asset(__doc__, SCHEMA)
