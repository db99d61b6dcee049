"""What every asset shares: what the catalog says of its table, partitions and freshness."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import dagster as dg

from governance import catalog
from resources.settings import settings

# One run of a range of days is how a backfill of a table should go; the parameter is in beta.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

DAYS = dg.DailyPartitionsDefinition(settings().first_day.isoformat(), end_offset=1)
BACKFILL = dg.BackfillPolicy.single_run()

# How old a table may be before it is stale, by layer.
FRESHNESS = {
    "bronze": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1), warn_window=timedelta(minutes=30)),
    "silver": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1), warn_window=timedelta(minutes=45)),
    "gold": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1, minutes=30), warn_window=timedelta(hours=1)),
    "published": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1), warn_window=timedelta(minutes=45)),
    "operations": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24), warn_window=timedelta(hours=12)),
    "reports": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24), warn_window=timedelta(hours=12)),
    "models": dg.FreshnessPolicy.time_window(fail_window=timedelta(days=30), warn_window=timedelta(days=14)),
}
ACCOUNTED = "rows_accounted_for"
RULES = "rules"


def table_key(table: str) -> dg.AssetKey:
    """Return the asset key of ``layer/table``."""
    return dg.AssetKey(table.split("/"))


def described(
    table: str,
    doc: str | None,
    *,
    meanings: Mapping[str, str] = MappingProxyType({}),
    inputs: Sequence[str] = (),
    deps: Sequence[str] = (),
    kinds: Sequence[str] = ("delta", "polars"),
    daily: bool = True,
) -> dict[str, Any]:
    """Return the arguments of ``dg.asset`` for a table of the catalog.

    Args:
        table: ``layer/table``.
        doc: the module's docstring, which begins the description in the UI.
        meanings: what the UI says of columns.
        inputs: tables whose rows of a day make its rows of that day.
        deps: what else it reads: tables as a whole, models.
        kinds: what the UI shows it to be made with; three at most.
        daily: it has daily partitions.
    """
    known = catalog.table(table)
    # Their types are those of the Delta table.
    columns = [dg.TableColumn(name, "", meanings.get(name), tags={kind: ""}) for name, kind in known.classes.items()]
    arguments: dict[str, Any] = {
        "key": table_key(table),
        "deps": [table_key(dep) for dep in (*inputs, *deps)],
        "group_name": known.layer,
        "description": f"{(doc or '').strip()}\n\nGrain: {known.grain}. Key: {', '.join(known.key)}.",
        "owners": [f"team:{known.owner}"],
        "kinds": set(kinds),
        "freshness_policy": FRESHNESS[known.layer],
        "metadata": {
            "table": table,
            "inputs": list(inputs),
            "dagster/column_schema": dg.TableSchema(columns=columns),
        },
    }
    if known.layer in ("bronze", "silver"):
        names = [ACCOUNTED, *([RULES] if known.rules is not None else [])]
        arguments["check_specs"] = [dg.AssetCheckSpec(name, asset=table_key(table)) for name in names]
    if daily:
        arguments |= {"partitions_def": DAYS, "backfill_policy": BACKFILL}
    return arguments
