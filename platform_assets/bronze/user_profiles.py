"""One row is one version of a user's profile, with the user's consent.

Updates come by file, and from the table ``users`` of the database.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/user_profiles",
    folder="users",
    columns={
        "user_id": pl.String,
        "handle": pl.String,
        "display_name": pl.String,
        "country": pl.String,
        "consent": pl.Boolean,
        "followers": pl.Int64,
        "created_at": TIME,
        "updated_at": TIME,
        "tenant_id": pl.String,
    },
    key="user_id",
    event_time="updated_at",
    sql_table="users",
)

user_profiles = bronze_asset(__doc__, SCHEMA)
