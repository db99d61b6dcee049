"""The gold tables as assets: one run of dbt builds and tests those that are wanted, for the days that are wanted."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import dbt_assets

from platform_assets.conventions import BACKFILL, DAYS
from platform_assets.gold.project import TRANSLATOR, DbtError, build, manifest
from platform_assets.publishing import input_checkpoints
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse

KNOWN = manifest()


@dbt_assets(
    manifest=KNOWN, dagster_dbt_translator=TRANSLATOR, name="gold", partitions_def=DAYS, backfill_policy=BACKFILL
)
def gold(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> Iterator[Any]:
    """Build the tables, then note in each from which state of its inputs it was made."""
    days, seen = list(context.partition_keys), snapshot(lakehouse)
    tables = {key: context.assets_def.specs_by_key[key].metadata for key in context.selected_asset_keys}
    checkpoints = {key: input_checkpoints(seen, table["table"], table["inputs"], days) for key, table in tables.items()}
    events, failure = build(context, KNOWN, lakehouse, [key.path[-1] for key in tables], days)
    if not failure:
        for key, table in tables.items():
            lakehouse.keep_checkpoints(table["table"], checkpoints[key])
    for event in events:
        if not isinstance(event, dg.Output):
            yield event
            continue
        name = tables[context.asset_key_for_output(event.output_name)]["table"]
        counts = {"dagster/row_count": lakehouse.count(name), "delta_version": lakehouse.version(name)}
        yield event.with_metadata({**counts, "seconds": event.metadata["Execution Duration"]})
    if failure:
        raise DbtError(failure)
