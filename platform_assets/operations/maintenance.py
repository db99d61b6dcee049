"""One row is one table: its files, and what its last maintenance saved.

Small files of a day become one, and what has been out of use for a day leaves the disk and the log. So readers of
versions of the last day are not disturbed. Dagster's own runs and events are deleted after ninety days.
"""

import time
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl

from governance import catalog
from platform_assets.conventions import table_spec
from platform_assets.operations import retention
from resources.event_log import forget
from resources.lakehouse.disk import compact, purge
from resources.lakehouse.files import log_entries
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/maintenance"
SCHEMA = {
    "table": pl.String,
    "maintained_at": pl.Datetime("us", "UTC"),
    "files_compacted": pl.Int64,
    "files_deleted": pl.Int64,
    "files": pl.Int64,
    "bytes": pl.Int64,
    "log_entries": pl.Int64,
}
# Longer than any reader of an earlier version takes.
KEPT = timedelta(days=1)
KEPT_RUNS = timedelta(days=90)


@dg.asset(**table_spec(TABLE, __doc__, deps=[retention.TABLE], daily=False))
def maintenance(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Maintain every table, and Dagster's own."""
    started, now = time.perf_counter(), datetime.now(UTC)
    rows = maintained(lakehouse, now)
    version = lakehouse.replace_all(TABLE, rows)
    saved = {name: int(rows[name].sum()) for name in ("files_compacted", "files_deleted")}
    events = forget(context.instance, now - KEPT_RUNS)
    seconds = round(time.perf_counter() - started, 3)
    counts = {"dagster/row_count": rows.height, "delta_version": version, "seconds": seconds}
    return dg.MaterializeResult(metadata={**counts, **saved, "runs_and_events_deleted": events})


def maintained(lakehouse: Lakehouse, now: datetime) -> pl.DataFrame:
    """Compact and clean every table that exists, and return the rows of this one."""
    rows = []
    for table in filter(lakehouse.exists, catalog.tables()):
        compacted, deleted = compact(lakehouse, table), purge(lakehouse, table, KEPT)
        files = pl.DataFrame(lakehouse.open(table).get_add_actions(flatten=True))
        size = int(files["size_bytes"].sum()) if files.height else 0
        rows.append((table, now, compacted, deleted, files.height, size, len(log_entries(lakehouse, table))))
    return pl.DataFrame(rows, SCHEMA, orient="row")
