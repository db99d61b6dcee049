"""Whether a table for consumers has special topics beside persons' ids: a check of each that names persons."""

from collections.abc import Iterator

import dagster as dg

from governance import catalog
from governance.special_topics import may_hold, rows_with_topics, tables
from platform_assets.conventions import table_key
from resources.lakehouse.tables import Lakehouse

CHECK = "no_special_topics"
SPECS = [dg.AssetCheckSpec(CHECK, asset=table_key(table.name)) for table in tables()]


@dg.multi_asset_check(name=CHECK, specs=SPECS, can_subset=True)
def no_special_topics(
    context: dg.AssetCheckExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]
) -> Iterator[dg.AssetCheckResult]:
    """Look through the columns that may hold topics; where there are none, nothing is read."""
    for key in sorted(check.asset_key for check in context.selected_asset_check_keys):
        table = catalog.table(key.to_user_string())
        found = rows_found(lakehouse, table)
        yield dg.AssetCheckResult(asset_key=key, check_name=CHECK, passed=not found, metadata={"rows": found})


def rows_found(lakehouse: Lakehouse, table: catalog.Table) -> int:
    """Return the number of rows with a special topic beside a person's id."""
    if not lakehouse.exists(table.name):
        return 0
    rows = lakehouse.scan(table.name)
    if not may_hold(table, rows.collect_schema()):
        return 0
    return sum(rows_with_topics(table, part).height for part in rows.collect().iter_slices())
