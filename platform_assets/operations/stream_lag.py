"""Whether `seamless stream` keeps up: a check of each table that a topic is read into.

The worker says it every few seconds; executed by hand, the check repeats what the worker said last.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from platform_assets.bronze import SCHEMAS
from platform_assets.conventions import table_key
from resources.settings import settings

CHECK, LAG = "stream_lag", "lag_seconds"
TABLES = tuple(table_key(expected.table) for expected in SCHEMAS if expected.topic)
# How far back to look for what the worker said: runs of the graph materialise the same tables.
LOOKED_AT = 20


def verdict(said: Iterable[tuple[datetime, Mapping[str, Any]]], now: datetime, most: float) -> tuple[bool, str]:
    """Judge a table's materialisations, the latest first, by the last that the stream worker reported.

    Args:
        said: moment and metadata of each; those of the worker have ``lag_seconds``.
        now: the moment of judging.
        most: seconds that an event may wait.
    """
    for moment, metadata in said:
        if LAG in metadata:
            lag, ago = float(metadata[LAG].value), (now - moment).total_seconds()
            return lag <= most, f"an event waited {lag:.1f} s at most, said {ago:.0f} s ago; {most:g} s are allowed"
    return True, "no stream worker has reported"


@dg.multi_asset_check(name=CHECK, specs=[dg.AssetCheckSpec(CHECK, asset=key) for key in TABLES], can_subset=True)
def stream_lag(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Repeat what the worker said last of each table."""
    for key in sorted(check.asset_key for check in context.selected_asset_check_keys):
        records = context.instance.fetch_materializations(key, limit=LOOKED_AT).records
        told = [(datetime.fromtimestamp(r.timestamp, UTC), r.asset_materialization.metadata) for r in records]
        passed, why = verdict(told, datetime.now(UTC), settings().stream_lag_seconds)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=CHECK,
            passed=passed,
            description=why,
            severity=dg.AssetCheckSeverity.WARN,
        )
