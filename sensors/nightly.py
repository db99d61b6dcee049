"""Every night: expired rows leave tables, logs and disk, small files become few, the access log is looked through."""

import dagster as dg

from platform_assets.conventions import table_key
from platform_assets.operations import access, maintenance, retention

nightly = dg.ScheduleDefinition(
    name="nightly",
    target=dg.AssetSelection.assets(*map(table_key, (retention.TABLE, maintenance.TABLE, access.TABLE))),
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
