"""The gold tables as assets: one dbt run builds and tests the selected tables for the selected days."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import dbt_assets

from platform_assets.conventions import BACKFILL, DAYS
from platform_assets.gold.project import TRANSLATOR, DbtError, build, manifest
from platform_assets.publishing import input_checkpoints
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse


def gold_tables() -> dg.AssetsDefinition:
    """Return the models of the dbt project as assets."""
    project = manifest()

    @dbt_assets(
        manifest=project, dagster_dbt_translator=TRANSLATOR, name="gold", partitions_def=DAYS, backfill_policy=BACKFILL
    )
    def gold(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> Iterator[Any]:
        """Build the tables, then keep with each the state of its inputs."""
        days, before = list(context.partition_keys), snapshot(lakehouse)
        tables = {key: context.assets_def.specs_by_key[key].metadata for key in context.selected_asset_keys}
        checkpoints = {
            key: input_checkpoints(before, table["table"], table["inputs"], days) for key, table in tables.items()
        }
        events, failure = build(context, project, lakehouse, [key.path[-1] for key in tables], days)
        if not failure:
            for key, table in tables.items():
                lakehouse.save_checkpoints(table["table"], checkpoints[key])
        for event in events:
            if not isinstance(event, dg.Output):
                yield event
                continue
            name = tables[context.asset_key_for_output(event.output_name)]["table"]
            counts = {"dagster/row_count": lakehouse.count(name), "delta_version": lakehouse.version(name)}
            yield event.with_metadata({**counts, "seconds": event.metadata["Execution Duration"]})
        if failure:
            raise DbtError(failure)

    return gold
