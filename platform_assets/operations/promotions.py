"""One row is one event of the promotion log: a promotion, a rollback, or a change of a challenger's traffic.

A copy of the registry, so that SQL can join a decision to the event that put its model in service. ``model_version`` is
the new champion, or the challenger. ``share`` is the challenger's share of the documents from then on: 0 in shadow,
null when its traffic ends. Version 0 of the encoder is the packaged one.
"""

import time

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.silver.decisions import MODELS
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.registry.versions import promotion_log

TABLE = "operations/promotions"
SCHEMA = {
    "model_name": pl.String,
    "task": pl.String,
    "moved_at": pl.Datetime("us", "UTC"),
    "action": pl.String,
    "model_version": pl.Int64,
    "before_version": pl.Int64,
    "share": pl.Float64,
    "moved_by": pl.String,
    "moved_why": pl.String,
}


@dg.asset(**table_spec(TABLE, __doc__, deps=MODELS, daily=False))
def promotions(lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]) -> dg.MaterializeResult:
    """Copy the registry's promotion log."""
    started = time.perf_counter()
    rows = recorded(registry)
    version = lakehouse.replace_all(TABLE, rows)
    seconds = round(time.perf_counter() - started, 3)
    return dg.MaterializeResult(
        metadata={"dagster/row_count": rows.height, "delta_version": version, "seconds": seconds}
    )


def recorded(registry: Registry) -> pl.DataFrame:
    """Return the registry's promotion log as rows of this table."""
    rows = [
        (
            f"{registry.environment}.{task}", task, event.at, event.action, event.version, event.before, event.share,
            event.by, event.why,
        )
        for task, versions in registry.versions_by_task(every_encoder=True).items()
        for event in promotion_log(versions)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("model_name", "moved_at")


def behind(lakehouse: Lakehouse, registry: Registry) -> bool:
    """Say whether the table lacks an event, such as a rollback by hand."""
    return not lakehouse.exists(TABLE) or lakehouse.count(TABLE) != recorded(registry).height
