"""One row is one distinct hourly snapshot of a placement, and whether its seller may sell it.

Floor in US dollars per thousand impressions. ``authorisation`` is what the site's ads.txt and the exchange's
sellers.json say of the seller, and ``authorisation_reason`` why; both are as declared now: a day is made again where a
declaration changes.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.aliases import Aliases
from platform_assets.bronze.inventory import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.silver.ad_events import on_pages
from resources.lakehouse.tables import Lakehouse
from signals.documents.supply_chain import asked, with_authorisation

TABLE = "silver/inventory"
INPUTS = (SCHEMA.table,)
DECLARATIONS = "bronze/seller_declarations"


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=[DECLARATIONS, "silver/pages"]))
def inventory(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Type the snapshots, name the page and site of each, and say whether its seller is authorised."""
    write = start(context, lakehouse, TABLE, INPUTS)
    return write.publish(
        partial(offered, lakehouse=lakehouse, aliases=Aliases(lakehouse)), write.read_deliveries(SCHEMA)
    )


def offered(received: pl.DataFrame, lakehouse: Lakehouse, aliases: Aliases) -> pl.DataFrame:
    """Return rows of bronze/inventory typed, with what is declared now of those who sell them."""
    rows = on_pages(received, "observed_at", aliases)
    return with_authorisation(rows, asked(lakehouse.scan(DECLARATIONS), rows).collect())
