"""One row is one landed file of one bronze table: how far it has been read, and when.

Every reading adds a row. The asset keeps only the newest row of each file, so that the table grows with the files.
"""

import time

import dagster as dg

from platform_assets.bronze import SCHEMAS
from platform_assets.conventions import table_spec
from resources.lakehouse.tables import Lakehouse
from resources.landing.ledger import TABLE, compact

READERS = tuple(expected.table for expected in SCHEMAS)


@dg.asset(**table_spec(TABLE, __doc__, deps=READERS, daily=False))
def landed_files(lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Keep the newest row of each file."""
    started = time.perf_counter()
    version = compact(lakehouse, READERS)
    seconds = round(time.perf_counter() - started, 3)
    return dg.MaterializeResult(
        metadata={"dagster/row_count": lakehouse.count(TABLE), "delta_version": version, "seconds": seconds}
    )
