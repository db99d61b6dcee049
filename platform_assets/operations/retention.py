"""One row is one day of one table that was removed because it had expired: its rows, and when.

The days of each table leave it, then its log and the disk. A day whose inputs have expired is not made again. Old
entries of the signal store leave it as well, and the API's spool what bronze has of it.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from governance import catalog
from governance.retention import Policy, policy
from platform_assets.conventions import table_spec
from platform_assets.spool import clear_spool
from resources.lakehouse.days import DAY
from resources.lakehouse.disk import purge
from resources.lakehouse.tables import Lakehouse
from resources.settings import settings
from resources.signal_store.stores import SignalStore

TABLE = "operations/retention"
SCHEMA = {
    "table": pl.String,
    "day": pl.Date,
    "rows": pl.Int64,
    "kept_days": pl.Int64,
    "removed_at": pl.Datetime("us", "UTC"),
}


@dg.asset(**table_spec(TABLE, __doc__, daily=False))
def retention(
    lakehouse: dg.ResourceParam[Lakehouse], open_signal_store: dg.ResourceParam[Callable[[], SignalStore]]
) -> dg.MaterializeResult:
    """Remove what has expired."""
    now = datetime.now(UTC)
    removed: dict[str, Any] = {"days": expire(lakehouse, policy(), now)}
    with closing(open_signal_store()) as store:
        removed["entries"] = store.purge(now)
    removed["spooled_files"] = clear_spool(lakehouse, settings().decision_spool)
    version, rows = lakehouse.state(TABLE)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "delta_version": version, **removed})


def expire(lakehouse: Lakehouse, kept: Policy, now: datetime) -> dict[str, int]:
    """Remove the expired days of every table, and return their number by table.

    A day is noted before it is removed: nothing is made again from what remains of its inputs.
    """
    lakehouse.insert_missing(TABLE, pl.DataFrame(schema=SCHEMA), catalog.table(TABLE).key)
    removed = {}
    for table in catalog.tables().values():
        days = kept.expired(table, lakehouse.days(table.name), now.date())
        if days:
            counts = lakehouse.scan(table.name, days).group_by(DAY).len("rows").collect()
            note = counts.select(
                pl.lit(table.name).alias("table"),
                pl.col(DAY).alias("day"),
                pl.col("rows").cast(pl.Int64),
                kept_days=pl.lit(kept.kept_days(table), pl.Int64),
                removed_at=pl.lit(now, SCHEMA["removed_at"]),
            )
            lakehouse.insert_missing(TABLE, note, catalog.table(TABLE).key)
            lakehouse.drop_days(table.name, days)
            purge(lakehouse, table.name)
            removed[table.name] = len(days)
    return removed


def removed_days(lakehouse: Lakehouse) -> Mapping[str, set[str]]:
    """Return the removed days (ISO dates) of each table that has any."""
    if not lakehouse.exists(TABLE):
        return {}
    rows = lakehouse.read(TABLE).select("table", pl.col("day").cast(pl.String)).group_by("table").agg("day")
    return {table: {*days} for table, days in rows.iter_rows()}
