"""Which labelled texts teach a task, and which judge it."""

import polars as pl

from signals.tasks import Task

# Rows that train, and that judge, one task at most. Memory and time stay bounded however many labels are stored.
MAX_ROWS = 24_000
MAX_HELD_OUT = 3_000
# Rows of auxiliary tasks, as a share of the task's own.
MAX_AUXILIARY = 0.5


def examples(task: Task, labels: pl.DataFrame) -> pl.DataFrame:
    """Return content_hash, text, language, label and split (``train``, ``auxiliary``, ``val``) of the rows of a task.

    Args:
        task: its labels and its auxiliary tasks.
        labels: silver/labels: task, label, content_hash, text, language, split.

    One row a text: the latest answer wins. Of too many, the newest half of those that are kept teach and judge what
    the world is like now; the others are chosen by their hashes, so that nothing is forgotten: the same labels always
    give the same rows. Auxiliary rows only train, and never a text that the held-out split holds.
    """
    own = labels.filter(pl.col("task") == task.name, pl.col("label").is_in(task.labels))
    own = own.sort("labelled_at", "label_id").unique("content_hash", keep="last", maintain_order=True)
    val = _kept(own.filter(pl.col("split") == "val"), MAX_HELD_OUT)
    train = _kept(own.filter(pl.col("split") == "train"), MAX_ROWS)
    others = [
        labels.filter(pl.col("task") == name, pl.col("split") == "train")
        .sort("labelled_at", "label_id", descending=True)
        .with_columns(label=pl.col("label").replace_strict(mapping, default=None, return_dtype=pl.String))
        for name, mapping in task.auxiliary.items()
    ]
    auxiliary = pl.concat([train.clear(), *others]).filter(pl.col("label").is_not_null())
    auxiliary = auxiliary.join(pl.concat([train, val]), on="content_hash", how="anti").unique(
        "content_hash", keep="first", maintain_order=True
    )
    auxiliary = auxiliary.sort("content_hash").head(int(min(MAX_ROWS - train.height, MAX_AUXILIARY * train.height)))
    columns = ["content_hash", "text", "language", "label"]
    return pl.concat(
        [
            train.select(columns, split=pl.lit("train")),
            auxiliary.select(columns, split=pl.lit("auxiliary")),
            val.select(columns, split=pl.lit("val")),
        ]
    )


def _kept(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return so many rows at most: half of them the newest, the others by their hashes."""
    newest = rows.sort("labelled_at", "content_hash", descending=[True, False]).head(most // 2)
    others = rows.join(newest, on="content_hash", how="anti").sort("content_hash").head(most - newest.height)
    return pl.concat([newest, others]).sort("content_hash")
