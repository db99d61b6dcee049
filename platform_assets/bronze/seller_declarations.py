"""One row is one declaration of an ads.txt or a sellers.json: a seller, a variable, or the end of the file.

``fetched_at`` identifies the version of the file; a version counts once its end has been read. ``declared_by`` is the
site of an ads.txt, or the exchange of a sellers.json. ``line`` is the line there, or the seller's number.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/seller_declarations",
    folder="supply_chain",
    columns={
        "declared_by": pl.String,
        "document": pl.String,
        "fetched_at": TIME,
        "line": pl.Int64,
        "record": pl.String,
        "exchange": pl.String,
        "seller_id": pl.String,
        "relationship": pl.String,
        "certification_authority_id": pl.String,
        "variable": pl.String,
        "value": pl.String,
        "name": pl.String,
        "domain": pl.String,
        "seller_type": pl.String,
        "is_confidential": pl.Boolean,
        "is_passthrough": pl.Boolean,
        "sellers": pl.Int64,
        "other": pl.String,
    },
    key="declared_by",
    # Retention counts from the receipt of a file, which may have been fetched long before.
    event_time="received_at",
    nested=frozenset({"other"}),
)

seller_declarations = bronze_asset(__doc__, SCHEMA)
