"""One row is one registered version of a model, with its training record and promotion.

A copy of the registry, so that SQL can join decisions to it. ``gate`` is the gate's verdict as JSON. ``promoted_by`` is
of the last promotion; ``operations/promotions`` has all of them.
"""

import json
import time

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.silver.decisions import MODELS
from resources.lakehouse.tables import Lakehouse
from resources.registry.card import card
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from signals.tasks import TASKS

TABLE = "operations/model_versions"
SCHEMA = {
    "model_name": pl.String,
    "model_version": pl.Int64,
    "model_digest": pl.String,
    "transform_id": pl.String,
    "task": pl.String,
    "metric": pl.String,
    "metric_value": pl.Float64,
    "metrics": pl.String,
    "training_tables": pl.String,
    "rows_train": pl.Int64,
    "rows_val": pl.Int64,
    "trained_at": pl.Datetime("us", "UTC"),
    "is_champion": pl.Boolean,
    "gate": pl.String,
    "promoted_by": pl.String,
    "promoted_why": pl.String,
    "promoted_at": pl.Datetime("us", "UTC"),
    "card": pl.String,
}


@dg.asset(**table_spec(TABLE, __doc__, deps=[*MODELS, "models/encoder"], daily=False))
def model_versions(
    lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Copy the registry's record of every version."""
    started = time.perf_counter()
    versions = registry.versions_by_task(every_encoder=True)
    rows = pl.DataFrame([row(version) for task in TASKS for version in versions[task]], schema=SCHEMA)
    delta_version = lakehouse.replace_all(TABLE, rows.sort("model_name", "model_version"))
    seconds = round(time.perf_counter() - started, 3)
    return dg.MaterializeResult(
        metadata={"dagster/row_count": rows.height, "delta_version": delta_version, "seconds": seconds}
    )


def row(version: ModelVersion) -> dict[str, object]:
    """Return a version's row."""
    record, task, promoted = version.record, TASKS[version.task], version.promoted
    tables = {name.removeprefix("version:"): int(v) for name, v in record.items() if name.startswith("version:")}
    return {
        "model_name": version.name,
        "model_version": version.version,
        "model_digest": version.digest,
        "transform_id": version.transform_id,
        "task": task.name,
        "metric": task.metric,
        "metric_value": version.metrics.get(task.metric),
        "metrics": json.dumps(version.metrics, sort_keys=True),
        "training_tables": json.dumps(tables, sort_keys=True),
        "rows_train": int(record.get("rows_train", 0)),
        "rows_val": int(record.get("rows_val", 0)),
        "trained_at": version.trained_at,
        "is_champion": version.champion,
        "gate": None if version.verdict is None else version.verdict.dump(),
        "promoted_by": promoted and promoted.by,
        "promoted_why": promoted and promoted.why,
        "promoted_at": promoted and promoted.at,
        "card": card(version),
    }
