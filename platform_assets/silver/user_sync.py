"""One row is one distinct attempt to match a user's id with a partner's."""

import dagster as dg
import polars as pl

from platform_assets.bronze.user_sync import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.tables import Lakehouse

TABLE = "silver/user_sync"
INPUTS = (SCHEMA.table,)


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def user_sync(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Fill in time and tenant of each attempt."""
    write = start(context, lakehouse, TABLE, INPUTS)
    return write.publish(typed, write.read_deliveries(SCHEMA))


def typed(received: pl.DataFrame) -> pl.DataFrame:
    """Return rows of bronze/user_sync with time and tenant filled in."""
    return received.with_columns(
        synced_at=pl.coalesce("synced_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
