"""One row is one decision that the API has made, from the files in which each of its processes keeps them.

``decision`` is a row of silver/decisions as JSON. The same question on the same day has the same ``decision_id``, as
often as it is asked. ``instruction_set`` is that of the machine that decided.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema
from resources.decision_spool import FOLDER

SCHEMA = SourceSchema(
    table="bronze/api_decisions",
    folder=FOLDER,
    spooled=True,
    columns={
        "decision_id": pl.String,
        "tenant_id": pl.String,
        "asked_on": TIME,
        "instruction_set": pl.String,
        "decision": pl.String,
    },
    key="decision_id",
    event_time="asked_on",
    nested=frozenset({"decision"}),
)

api_decisions = bronze_asset(__doc__, SCHEMA)
