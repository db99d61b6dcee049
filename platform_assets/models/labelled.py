"""The labelled rows of a task, as its models see them: their counts, vectors and images."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import polars as pl

from platform_assets.silver.embeddings import vectors
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from signals.models.heads import Floats
from signals.tasks import Task


def label_counts(lakehouse: Lakehouse, until: datetime | None = None) -> dict[str, int]:
    """Return the number of labels of each task, declared or not; with ``until``, of those received by then."""
    rows = lakehouse.scan("silver/labels")
    rows = rows if until is None else rows.filter(pl.col("received_at") <= until)
    return dict(rows.group_by("task").len().collect().iter_rows())


def labels_of(task: Task, counts: Mapping[str, int]) -> int:
    """Return the number of labels that train a task: its own and those of its auxiliary tasks."""
    return sum(counts.get(name, 0) for name in (task.name, *task.auxiliary))


def labelled_images(task: Task, lakehouse: Lakehouse) -> pl.DataFrame:
    """Return body and latest label of each distinct labelled image."""
    labels = lakehouse.scan("silver/labels").filter(pl.col("task") == task.name)
    images = lakehouse.scan("silver/images").select("content_hash", "body").unique("content_hash")
    return (
        labels.join(images, on="content_hash")
        .sort("content_hash", "labelled_at", "label_id")
        .unique("content_hash", keep="last", maintain_order=True)
        .select("content_hash", "body", "label")
        .collect()
    )


def vectors_of(rows: pl.DataFrame, lakehouse: Lakehouse, encoder: Encoder) -> Floats:
    """Return the vectors of texts, (rows, dimensions), from silver/embeddings; missing ones are encoded and stored."""
    stored = vectors(lakehouse, encoder, rows.with_columns(pl.lit(datetime.now(UTC).date()).alias(DAY)))
    joined = rows.join(stored, on="content_hash", how="left", maintain_order="left")
    return joined["vector"].explode().to_numpy().reshape(rows.height, encoder.dimensions).astype(np.float32)
