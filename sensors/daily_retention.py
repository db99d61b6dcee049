"""Every night, what has expired leaves the tables, their logs and the disk, and the log of access is looked through."""

import dagster as dg

from platform_assets.conventions import table_key
from platform_assets.operations import access, retention

daily_retention = dg.ScheduleDefinition(
    name="daily_retention",
    target=dg.AssetSelection.assets(table_key(retention.TABLE), table_key(access.TABLE)),
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
