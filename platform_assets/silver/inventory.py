"""One row is one distinct hourly snapshot of a placement.

Key: snapshot_id. Grain: one placement and hour. Floor in US dollars per thousand impressions. Owner: ad-exchange.
"""

import dagster as dg

from platform_assets.conventions import described
from platform_assets.publishing import begin
from platform_assets.silver.ad_events import on_pages
from resources.lakehouse import Lakehouse

TABLE = "silver/inventory"
INPUTS = ("bronze/inventory",)


@dg.asset(**described(TABLE, __doc__, owner="ad-exchange", inputs=INPUTS, rules=True))
def inventory(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> dg.MaterializeResult:
    """Type the snapshots and name the page and site of each."""
    hop = begin(context, lakehouse, TABLE, INPUTS)
    received = lakehouse.read("bronze/inventory", hop.days)
    return hop.publish(on_pages(received, "observed_at"), rows_in=received.height)
