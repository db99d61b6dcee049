"""One row is one fetch of a page or an image, as the crawler wrote it.

A page that was fetched twice has two rows. ``html`` (from JSON) or ``body`` (bytes, from files) is the content;
``images`` is a JSON list of the page's images. ``http_status``, ``content_type`` (with or without a charset),
``content_encoding`` and ``charset`` are from HTTP, as received. ``body`` is decoded from its content coding.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/page_fetches",
    folder="pages",
    topic="pages",
    columns={
        "url": pl.String,
        "fetched_at": TIME,
        "http_status": pl.Int64,
        "content_type": pl.String,
        "content_encoding": pl.String,
        "charset": pl.String,
        "html": pl.String,
        "body": pl.Binary,
        "images": pl.String,
        "tenant_id": pl.String,
    },
    key="url",
    event_time="fetched_at",
    nested=frozenset({"images"}),
)

page_fetches = bronze_asset(__doc__, SCHEMA)
