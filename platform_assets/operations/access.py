"""One row is one question to the tables: who asked it as which role, of which tables, and how many rows came back.

The log of access is the record, and this its copy for queries. ``query`` has neither literals nor names of its own, and
``question`` is a digest.
"""

import json
from collections.abc import Iterable

import dagster as dg
import polars as pl

from platform_assets.conventions import table_key, table_spec
from resources.access_log import AccessLog
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/access"
LINES = "lines"
CHECK = "log_is_whole"
MAX_FAULTS = 20
SCHEMA = {
    "number": pl.Int64,
    "at": pl.Datetime("us", "UTC"),
    "who": pl.String,
    "role": pl.String,
    "tenant": pl.String,
    "door": pl.String,
    "tables": pl.List(pl.String),
    "rows": pl.Int64,
    "outcome": pl.String,
    "query": pl.String,
    "question": pl.String,
    "digest": pl.String,
}


@dg.asset(**table_spec(TABLE, __doc__, daily=False), check_specs=[dg.AssetCheckSpec(CHECK, asset=table_key(TABLE))])
def access(lakehouse: dg.ResourceParam[Lakehouse], access_log: dg.ResourceParam[AccessLog]) -> dg.MaterializeResult:
    """Copy the lines that are new, and look for lines that were tampered with."""
    copied = lakehouse.checkpoint(TABLE, LINES)
    rows = rows_of(access_log.after(copied or 0))
    lakehouse.append_once(TABLE, rows, {LINES: copied}, {LINES: (copied or 0) + rows.height})
    faults = list(access_log.faults())
    check = dg.AssetCheckResult(
        passed=not faults, check_name=CHECK, metadata={"faults": faults[:MAX_FAULTS], "signed": access_log.signed}
    )
    version, height = lakehouse.state(TABLE)
    metadata = {"dagster/row_count": height, "delta_version": version, "rows_added": rows.height}
    return dg.MaterializeResult(metadata=metadata, check_results=[check])


def rows_of(lines: Iterable[str]) -> pl.DataFrame:
    """Return lines of the log as rows."""
    contents = [json.loads(line) for line in lines]
    rows = pl.DataFrame([{**one, "at": None} for one in contents], SCHEMA)
    at = pl.Series([one["at"] for one in contents], dtype=pl.String).str.to_datetime(time_zone="UTC", time_unit="us")
    return rows.with_columns(at=at).with_columns(pl.col("at").dt.date().alias(DAY))
