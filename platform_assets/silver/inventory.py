"""One row is one distinct hourly snapshot of a placement, and whether its seller may sell it.

The floor price is in US dollars per thousand impressions. ``authorisation`` is the verdict of the site's ads.txt and
the exchange's sellers.json on the seller, ``authorisation_reason`` its reason. Both follow the newest declarations: a
day is made again where one changes.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.aliases import Aliases
from platform_assets.bronze.inventory import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.silver.ad_events import with_documents
from resources.lakehouse.tables import Lakehouse
from signals.documents.supply_chain import asked, with_authorisation

TABLE = "silver/inventory"
INPUTS = (SCHEMA.table,)
DECLARATIONS = "bronze/seller_declarations"


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=[DECLARATIONS, "silver/pages"]))
def inventory(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Name the page and site of each snapshot, and check whether its seller is authorised."""
    write = start(context, lakehouse, TABLE, INPUTS)
    stage = partial(with_sellers, lakehouse=lakehouse, aliases=Aliases(lakehouse))
    return write.publish(stage, write.read_deliveries(SCHEMA))


def with_sellers(received: pl.DataFrame, lakehouse: Lakehouse, aliases: Aliases) -> pl.DataFrame:
    """Return rows of bronze/inventory with their documents and the authorisation of their sellers."""
    rows = with_documents(received, "observed_at", aliases)
    return with_authorisation(rows, asked(lakehouse.scan(DECLARATIONS), rows).collect())
