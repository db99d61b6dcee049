"""One row is one distinct attempt to match a user's id with a partner's.

``consent`` is what the consent strings say, or else what the source does. Without it, ``user_id`` and ``partner_uid``
are null.
"""

import dagster as dg
import polars as pl

from platform_assets.bronze.user_sync import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.tables import Lakehouse
from resources.settings import settings
from signals.documents.privacy import Signals, consented

TABLE = "silver/user_sync"
INPUTS = (SCHEMA.table,)
# What the consent strings say, in the order of ``Signals``.
STRINGS = ("gdpr", "gdpr_consent", "gpp", "gpp_sid", "us_privacy")


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def user_sync(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Fill in time, tenant and consent of each attempt."""
    write = start(context, lakehouse, TABLE, INPUTS)
    return write.publish(typed, write.read_deliveries(SCHEMA))


def typed(received: pl.DataFrame) -> pl.DataFrame:
    """Return rows of bronze/user_sync with time, tenant and consent filled in."""
    vendor = settings().tcf_vendor_id
    said = [consented(Signals(*strings), vendor) for strings in received.select(STRINGS).iter_rows()]
    return received.drop(STRINGS).with_columns(
        synced_at=pl.coalesce("synced_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
        consent=pl.coalesce(pl.Series("said", said, pl.Boolean), "consent"),
    )
