"""Whether `seamless stream` keeps up: a check of each table with a topic.

The worker reports it every few seconds; executed by hand, the check repeats the last report.
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
# Materialisations searched for the worker's report: runs of the graph materialise the same tables.
MAX_MATERIALISATIONS = 20


def verdict(reports: Iterable[tuple[datetime, Mapping[str, Any]]], now: datetime, max_lag: float) -> tuple[bool, str]:
    """Return whether the stream worker's last report is within the allowed lag, and why.

    Args:
        reports: timestamp and metadata of a table's materialisations, latest first; the worker's have ``lag_seconds``.
        now: the time.
        max_lag: seconds that an event may wait.
    """
    for timestamp, metadata in reports:
        if LAG in metadata:
            lag, age = float(metadata[LAG].value), (now - timestamp).total_seconds()
            why = f"an event waited {lag:.1f} s at most, said {age:.0f} s ago; {max_lag:g} s are allowed"
            return lag <= max_lag, why
    return True, "no stream worker has reported"


@dg.multi_asset_check(name=CHECK, specs=[dg.AssetCheckSpec(CHECK, asset=key) for key in TABLES], can_subset=True)
def stream_lag(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Repeat the worker's last report of each table."""
    for key in sorted(check.asset_key for check in context.selected_asset_check_keys):
        records = context.instance.fetch_materializations(key, limit=MAX_MATERIALISATIONS).records
        reports = [(datetime.fromtimestamp(r.timestamp, UTC), r.asset_materialization.metadata) for r in records]
        passed, why = verdict(reports, datetime.now(UTC), settings().stream_lag_seconds)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=CHECK,
            passed=passed,
            description=why,
            severity=dg.AssetCheckSeverity.WARN,
        )
