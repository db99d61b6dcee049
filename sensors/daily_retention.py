"""Retention every night: what has expired leaves the tables, their logs and the disk."""

import dagster as dg

from platform_assets.conventions import table_key
from platform_assets.operations.retention import TABLE

daily_retention = dg.ScheduleDefinition(
    name="daily_retention",
    target=dg.AssetSelection.assets(table_key(TABLE)),
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
