"""The gold tables as assets: one run of dbt builds and tests those that are wanted, for the days that are wanted."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import dbt_assets

from platform_assets.conventions import BACKFILL, DAYS
from platform_assets.gold.project import DbtError, Gold, build, manifest
from resources.lakehouse import Lakehouse

PROJECT = manifest()


@dbt_assets(
    manifest=PROJECT, dagster_dbt_translator=Gold(), name="gold", partitions_def=DAYS, backfill_policy=BACKFILL
)
def gold(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> Iterator[Any]:
    """Build the tables, then note in each from which state of its inputs it was made."""
    days = list(context.partition_keys)
    metadata = {key: context.assets_def.specs_by_key[key].metadata for key in context.selected_asset_keys}
    marks = {key: lakehouse.marks(of["inputs"], days) for key, of in metadata.items()}
    events, failure = build(context, PROJECT, lakehouse, [key.path[-1] for key in metadata], days)
    for event in events:
        if not isinstance(event, dg.Output):
            yield event
            continue
        key = context.asset_key_for_output(event.output_name)
        table = metadata[key]["table"]
        if failure is None:
            lakehouse.mark(table, marks[key])
        yield event.with_metadata(
            {
                "dagster/row_count": lakehouse.count(table),
                "seconds": round(event.metadata["Execution Duration"].value, 3),
                "delta_version": lakehouse.version(table),
            }
        )
    if failure:
        raise DbtError(failure)
