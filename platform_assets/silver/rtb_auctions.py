"""One row is one distinct real-time auction, its OpenRTB request and bids reduced to what is analysed.

Prices are per thousand, latencies in milliseconds. Columns that end in ``_usd`` are in US dollars, at the rate of the
auction's day as it was known when the day was made, and null where there was none; ``floor_cpm`` is in
``floor_currency``. ``market_price`` is in the unit of a source that states none. An app has ``app_bundle`` and no site.
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
    """Read each auction's request and bids."""
    write = start(context, lakehouse, TABLE, INPUTS)
    return write.publish(opened, write.read_deliveries(SCHEMA))


def opened(received: pl.DataFrame) -> pl.DataFrame:
    """Return bronze auctions with what their JSON says, and ``rule`` where it is no OpenRTB."""
    rates = currency_rates(settings())
    found = [
        auction(request, bids, rates, day) for request, bids, day in received.select("request", "bids", DAY).iter_rows()
    ]
    kept = received.drop("request", "bids").with_columns(
        auction_time=pl.coalesce("auction_time", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
        # An auction that nobody won may name a blank.
        winner=pl.col("winner").str.strip_chars().replace("", None),
    )
    return pl.concat([kept, pl.DataFrame(found, schema=AUCTION)], how="horizontal", strict=True)
