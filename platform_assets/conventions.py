"""Conventions of every asset: its specification from the catalog, its partitions and its freshness."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

import dagster as dg

from governance import catalog
from resources.settings import Settings

# A backfill is one run over its range of days; the parameter is in beta.
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def days_from(first_day: date) -> dg.DailyPartitionsDefinition:
    """Return the daily partitions from a day to today."""
    return dg.DailyPartitionsDefinition(first_day.isoformat(), end_offset=1)


# Assets are declared with the default; the entry point puts the setting's in its place.
DAYS = days_from(Settings.model_fields["first_day"].default)
BACKFILL = dg.BackfillPolicy.single_run()

# Age at which a table counts as late, by layer.
FRESHNESS = {
    "bronze": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1), warn_window=timedelta(minutes=30)),
    "silver": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1), warn_window=timedelta(minutes=45)),
    "gold": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1, minutes=30), warn_window=timedelta(hours=1)),
    "published": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1), warn_window=timedelta(minutes=45)),
    "operations": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24), warn_window=timedelta(hours=12)),
    "reports": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24), warn_window=timedelta(hours=12)),
    "models": dg.FreshnessPolicy.time_window(fail_window=timedelta(days=30), warn_window=timedelta(days=14)),
}
ACCOUNTED_CHECK = "rows_accounted_for"
RULES_CHECK = "rules"


def table_key(table: str) -> dg.AssetKey:
    """Return the asset key of ``layer/table``."""
    return dg.AssetKey(table.split("/"))


def table_spec(
    table: str,
    doc: str | None,
    *,
    column_descriptions: Mapping[str, str] = MappingProxyType({}),
    inputs: Sequence[str] = (),
    deps: Sequence[str] = (),
    kinds: Sequence[str] = ("delta", "polars"),
    daily: bool = True,
) -> dict[str, Any]:
    """Return the arguments of ``dg.asset`` for a table of the catalog.

    Args:
        table: ``layer/table``.
        doc: the module's docstring, which begins the description in the UI.
        column_descriptions: descriptions of columns in the UI.
        inputs: tables from whose rows of a day its rows of that day are made.
        deps: other dependencies: tables read as a whole, models.
        kinds: technologies that the UI shows; three at most.
        daily: whether it has daily partitions.
    """
    entry = catalog.table(table)
    columns = [
        # Without a type: that is the Delta table's.
        dg.TableColumn(name, "", column_descriptions.get(name), tags={data_class: ""})
        for name, data_class in entry.classes.items()
    ]
    arguments: dict[str, Any] = {
        "key": table_key(table),
        "deps": [table_key(dep) for dep in (*inputs, *deps)],
        "group_name": entry.layer,
        "description": f"{(doc or '').strip()}\n\nGrain: {entry.grain}. Key: {', '.join(entry.key)}.",
        "owners": [f"team:{entry.owner}"],
        "kinds": set(kinds),
        "freshness_policy": FRESHNESS[entry.layer],
        "metadata": {
            "table": table,
            "inputs": list(inputs),
            "dagster/column_schema": dg.TableSchema(columns=columns),
        },
    }
    if entry.layer in ("bronze", "silver"):
        names = [ACCOUNTED_CHECK, *([RULES_CHECK] if entry.rules is not None else [])]
        arguments["check_specs"] = [dg.AssetCheckSpec(name, asset=table_key(table)) for name in names]
    if daily:
        arguments |= {"partitions_def": DAYS, "backfill_policy": BACKFILL}
    return arguments
