"""One row is one record or row that broke a rule: its content, its source, and the rule.

Every bronze and silver table writes here: nothing is dropped silently. The asset only counts the rows, so that the
graph shows where they end.
"""

import time

import dagster as dg
import polars as pl

from governance import catalog
from platform_assets.conventions import ACCOUNTED_CHECK, table_spec
from platform_assets.publishing import QUARANTINE
from resources.lakehouse.tables import Lakehouse

WRITERS = (*catalog.names("bronze"), *(name for name in catalog.names("silver") if name != QUARANTINE))


@dg.asset(**table_spec(QUARANTINE, __doc__, deps=WRITERS, daily=False))
def quarantine(lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Count the quarantined rows by table and rule."""
    started = time.perf_counter()
    counts = lakehouse.scan(QUARANTINE).group_by("table", "rule").len().sort("table", "rule").collect()
    duplicates = lakehouse.scan(QUARANTINE).select(pl.col("quarantine_id").is_duplicated().sum()).collect().item()
    check = dg.AssetCheckResult(
        check_name=ACCOUNTED_CHECK, passed=duplicates == 0, metadata={"listed_twice": duplicates}
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": int(counts["len"].sum()),
            "rules_broken": {f"{table}: {rule}": rows for table, rule, rows in counts.rows()},
            "delta_version": lakehouse.version(QUARANTINE),
            "seconds": round(time.perf_counter() - started, 3),
        },
        check_results=[check],
    )
