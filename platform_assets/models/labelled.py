"""The labelled rows of a task, as its models see them: how many, their vectors, their pictures."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import polars as pl

from resources.encoder import Encoder
from resources.lakehouse import Lakehouse
from signals.encoder import DIMENSIONS
from signals.heads import Floats
from signals.tasks import Task


def label_counts(lakehouse: Lakehouse, until: datetime | None = None) -> dict[str, int]:
    """Return how many labels each task has, declared or not; or had, of those that have been received by a time."""
    rows = lakehouse.scan("silver/labels")
    rows = rows if until is None else rows.filter(pl.col("received_at") <= until)
    return dict(rows.group_by("task").len().collect().iter_rows())


def labels_of(task: Task, counts: Mapping[str, int]) -> int:
    """Return how many labels teach a task: its own and those that it borrows."""
    return sum(counts.get(name, 0) for name in (task.name, *task.borrowed))


def labelled_pictures(task: Task, lakehouse: Lakehouse) -> pl.DataFrame:
    """Return body and latest label of each distinct labelled picture."""
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
    """Return the vectors of texts, (rows, 384), from silver/embeddings.

    Raises:
        MissingVectorsError: some have none under the running encoder.
    """
    wanted = rows["content_hash"].unique().implode()
    stored = lakehouse.scan("silver/embeddings").filter(
        pl.col("encoder_id") == encoder.encoder_id, pl.col("content_hash").is_in(wanted)
    )
    found = stored.select("content_hash", "vector").unique("content_hash").collect()
    missing = rows.join(found, on="content_hash", how="anti").unique("content_hash", maintain_order=True)
    if missing.height:
        raise MissingVectorsError(missing.height)
    joined = rows.join(found, on="content_hash", how="left", maintain_order="left")
    return joined["vector"].explode().to_numpy().reshape(rows.height, DIMENSIONS).astype(np.float32)


class MissingVectorsError(LookupError):
    """Labelled texts have no vector under the running encoder."""

    def __init__(self, missing: int) -> None:
        super().__init__(
            f"{missing} labelled texts have no vector: materialise silver/embeddings for the days of their labels"
        )
