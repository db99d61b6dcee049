"""One row is one label that a reviewer, or a labelled corpus, gave for one task.

It names a document, or has the text itself. ``finer_label`` is one below the task's own label, such as a deeper topic,
and ``finer_path`` its names from the top, as in ``Sports > Basketball``. ``language`` is that of its text, where the
reviewer says it. Labels come by file, by topic, and from the
table ``labels`` of the database, with one row for each version that was read.
"""

import polars as pl

from platform_assets.ingestion import bronze_asset
from platform_assets.parsing import TIME, SourceSchema

SCHEMA = SourceSchema(
    table="bronze/review_labels",
    folder="labels",
    topic="labels",
    columns={
        "label_id": pl.String,
        "task": pl.String,
        "label": pl.String,
        "finer_label": pl.String,
        "finer_path": pl.String,
        "document_id": pl.String,
        "text": pl.String,
        "language": pl.String,
        "reviewer": pl.String,
        "labelled_at": TIME,
        "updated_at": TIME,
        "split": pl.String,
        "tenant_id": pl.String,
    },
    key="label_id",
    event_time="labelled_at",
    sql_table="labels",
)

review_labels = bronze_asset(__doc__, SCHEMA)
