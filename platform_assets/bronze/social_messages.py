"""One row is one social message, as a platform delivered it.

A message that was delivered twice has two rows. Messages come by file, by topic, and from the pulled API, whose equal
messages are read once.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/social_messages",
    folder="messages",
    topic="messages",
    columns={
        "message_id": pl.String,
        "author_id": pl.String,
        "text": pl.String,
        "sent_at": TIME,
        "platform": pl.String,
        "reply_to": pl.String,
        "tenant_id": pl.String,
    },
    key="message_id",
    event_time="sent_at",
    pulled=True,
)

social_messages = bronze_asset(__doc__, SCHEMA)
