"""One row is one attempt to match a user's id with a partner's.

``gdpr``, ``gdpr_consent`` (a TC string), ``gpp``, ``gpp_sid`` and ``us_privacy`` are parameters of the sync's address.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/user_sync",
    folder="user_sync",
    topic="user-sync",
    columns={
        "sync_id": pl.String,
        "synced_at": TIME,
        "user_id": pl.String,
        "partner": pl.String,
        "partner_uid": pl.String,
        "status": pl.String,
        "error": pl.String,
        "consent": pl.Boolean,
        "gdpr": pl.Int64,
        "gdpr_consent": pl.String,
        "gpp": pl.String,
        "gpp_sid": pl.String,
        "us_privacy": pl.String,
        "tenant_id": pl.String,
    },
    key="sync_id",
    event_time="synced_at",
    allowed={"status": frozenset({"matched", "unmatched", "error"})},
)

user_sync = bronze_asset(__doc__, SCHEMA)
