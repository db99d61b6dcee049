"""One row is one distinct real-time auction, with the analysed fields of its OpenRTB request and bids.

Prices are per thousand, latencies in milliseconds. Columns that end in ``_usd`` are in US dollars, at the newest rate
for the auction's day when the day was made; null without a rate. ``floor_cpm`` is in ``floor_currency``.
``market_price`` comes from sources that state no unit. An app has ``app_bundle`` and no site. ``user_id`` is null where
the request carries consent strings (TCF, GPP, US Privacy) by which it may not be kept.
"""

import dagster as dg
import polars as pl

from platform_assets.bronze.rtb_auctions import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT
from resources.currency_rates import currency_rates
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.settings import settings
from signals.documents.openrtb import AUCTION, auction

TABLE = "silver/rtb_auctions"
INPUTS = (SCHEMA.table,)


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def rtb_auctions(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Parse each auction's request and bids."""
    write = start(context, lakehouse, TABLE, INPUTS)
    return write.publish(parse_auctions, write.read_deliveries(SCHEMA))


def parse_auctions(received: pl.DataFrame) -> pl.DataFrame:
    """Return bronze auctions with the fields of their JSON, and ``rule`` where it is not OpenRTB."""
    rates, vendor = currency_rates(settings()), settings().tcf_vendor_id
    columns = received.select("request", "bids", DAY)
    auctions = [auction(request, bids, rates, day, vendor) for request, bids, day in columns.iter_rows()]
    rows = received.drop("request", "bids").with_columns(
        auction_time=pl.coalesce("auction_time", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
        # The winner of an auction without one may be a blank string.
        winner=pl.col("winner").str.strip_chars().replace("", None),
    )
    return pl.concat([rows, pl.DataFrame(auctions, schema=AUCTION)], how="horizontal", strict=True)
