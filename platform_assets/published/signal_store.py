"""One row is one day whose page signals have been put into the signal store, where ad decisioning looks them up.

The store keeps the newest signals of each page, in whatever order they are put. The stream puts its own signals; this
table puts those of batch.
"""

from collections.abc import Callable
from contextlib import closing

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.signal_store.entries import TABLE
from resources.signal_store.stores import SignalStore
from signals.consumer_record import PROVENANCE

INPUTS = ("silver/page_signals",)


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, kinds=("redis", "polars")))
def signal_store(
    context: dg.AssetExecutionContext,
    lakehouse: dg.ResourceParam[Lakehouse],
    open_signal_store: dg.ResourceParam[Callable[[], SignalStore]],
) -> dg.MaterializeResult:
    """Put the page signals of these days into the store."""
    write = start(context, lakehouse, TABLE, INPUTS)
    signals = lakehouse.read(INPUTS[0], write.days)
    with closing(open_signal_store()) as store:
        stored = put(store, signals)
    days = signals.group_by(DAY).agg(pages=pl.len().cast(pl.Int64)).sort(DAY)
    lakehouse.replace_days(TABLE, write.days, days, checkpoints=write.checkpoints)
    return write.result({"rows_in": signals.height, "rows_out": stored}, rows_out=lakehouse.count(TABLE))


def put(store: SignalStore, signals: pl.DataFrame) -> int:
    """Put page signals into the store; return how many it kept, because it may have newer ones."""
    return store.put(signals.drop(*PROVENANCE, DAY).iter_rows(named=True))


def forget(store: SignalStore, documents: pl.DataFrame) -> None:
    """Delete pages from the store.

    Args:
        store: the store.
        documents: tenant_id and document_id.
    """
    for (tenant,), of_tenant in documents.group_by("tenant_id"):
        store.delete(str(tenant), of_tenant["document_id"])
