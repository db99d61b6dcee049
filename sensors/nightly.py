"""Every night: what has expired leaves the tables, their logs and the disk, and small files become few."""

import dagster as dg

from platform_assets.conventions import table_key
from platform_assets.operations import maintenance, retention

nightly = dg.ScheduleDefinition(
    name="nightly",
    target=dg.AssetSelection.assets(table_key(retention.TABLE), table_key(maintenance.TABLE)),
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
