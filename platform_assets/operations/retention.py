"""One row is one day of one table that was removed because it had expired: its rows, and when.

The days of each table leave it, then its log and the disk. A day whose inputs have expired is not made again.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from governance import catalog
from governance.retention import Policy, policy
from platform_assets.conventions import table_spec
from resources.lakehouse.days import DAY
from resources.lakehouse.disk import purge
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/retention"
SCHEMA = {
    "table": pl.String,
    "day": pl.Date,
    "rows": pl.Int64,
    "kept_days": pl.Int64,
    "removed_at": pl.Datetime("us", "UTC"),
}


@dg.asset(**table_spec(TABLE, __doc__, daily=False))
def retention(lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Remove the days that have expired."""
    removed = expire(lakehouse, policy(), datetime.now(UTC))
    version, rows = lakehouse.state(TABLE)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "delta_version": version, "days": removed})


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
