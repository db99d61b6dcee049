"""One row is one encoded text: its hash and its vector under one encoder.

The day is that of the text's first document. Equal texts are encoded only once, whatever document, label or task they
belong to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import dagster as dg
import numpy as np
import numpy.typing as npt
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import accounted_check, start
from platform_assets.silver.labels import labels_in
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from resources.progress import work
from signals.documents.text import document_texts
from signals.models.examples import examples
from signals.tasks import TASKS

TABLE = "silver/embeddings"
INPUTS = ("silver/pages", "silver/messages", "silver/labels")
# Vectors per commit: the work that a kill can lose.
CHUNK = 4_096
KEY = ("content_hash", "encoder_id")
# Tasks with labels that train one.
TEACHING = sorted({name for task in TASKS.values() for name in (task.name, *task.auxiliary)})
SCHEMA = {
    "content_hash": pl.String,
    "encoder_id": pl.String,
    "vector": pl.List(pl.Float32),
    DAY: pl.Date,
}


@dg.asset(
    **table_spec(TABLE, __doc__, inputs=INPUTS, deps=["models/encoder"], kinds=("delta", "onnx")),
    pool="encoder",
)
def embeddings(
    context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse], encoder: dg.ResourceParam[Encoder]
) -> dg.MaterializeResult:
    """Encode the texts of these days that have no vector yet."""
    write = start(context, lakehouse, TABLE, INPUTS, made_by=encoder.encoder_id)
    texts = distinct_texts(lakehouse, write.days, partial(training_hashes, lakehouse, encoder))
    encoded_count = encode_missing(lakehouse, encoder, texts, write.days, write.checkpoints)
    return write.result(
        {
            "rows_in": texts.height,
            "rows_encoded": encoded_count,
            "rows_known": texts.height - encoded_count,
        },
        rows_out=lakehouse.count(TABLE),
        check_results=[
            accounted_check(unencoded(lakehouse, texts, encoder.encoder_id).is_empty(), rows_in=texts.height)
        ],
    )


def encode_missing(
    lakehouse: Lakehouse, encoder: Encoder, texts: pl.DataFrame, days: Sequence[str], checkpoints: Mapping[str, int]
) -> int:
    """Encode the texts of these days that have no vector of an encoder yet; return their number."""
    missing = unencoded(lakehouse, texts, encoder.encoder_id)
    for _ in _stored(lakehouse, encoder, missing):
        pass
    lakehouse.insert_missing(TABLE, pl.DataFrame(schema=SCHEMA), KEY, days=days, checkpoints=checkpoints)
    return missing.height


def vectors(lakehouse: Lakehouse, encoder: Encoder, texts: pl.DataFrame) -> pl.DataFrame:
    """Return content_hash and vector of each distinct text; a text without a vector is encoded, and its vector stored.

    Args:
        lakehouse: holds the stored vectors.
        encoder: the encoder.
        texts: content_hash, text, event_date, and ``title`` where texts have one.
    """
    texts = texts.unique("content_hash", keep="first", maintain_order=True)
    stored = stored_vectors(lakehouse, texts, encoder.encoder_id)
    missing = texts.join(stored, on="content_hash", how="anti", maintain_order="left")
    new = (rows.select("content_hash", "vector") for rows in _stored(lakehouse, encoder, missing))
    return pl.concat([stored, *new])


def _stored(lakehouse: Lakehouse, encoder: Encoder, missing: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Encode texts, and yield their rows once they are stored, a chunk at a time."""
    done = 0
    with work("encode texts") as report:
        for chunk in missing.iter_slices(CHUNK):
            report(done, missing.height)
            rows = encoded(chunk, encoder)
            store(lakehouse, rows)
            done += chunk.height
            yield rows


def stored_vectors(lakehouse: Lakehouse, texts: pl.DataFrame, encoder_id: str) -> pl.DataFrame:
    """Return content_hash and vector of each text that has a vector under an encoder; only its days are read."""
    keys = texts.select("content_hash", encoder_id=pl.lit(encoder_id))
    rows, version = KeyIndex(lakehouse, TABLE).stored(keys, ["vector"])
    if version is None:
        return pl.DataFrame(schema={name: SCHEMA[name] for name in ("content_hash", "vector")})
    return rows.select("content_hash", "vector").unique("content_hash")


def store(lakehouse: Lakehouse, rows: pl.DataFrame) -> None:
    """Add rows that the table does not hold yet."""
    held, version = KeyIndex(lakehouse, TABLE).stored(rows, [])
    missing = rows.join(held, on=KEY, how="anti", maintain_order="left")
    lakehouse.insert_missing(TABLE, missing, KEY, looked_at=version)


def training_hashes(lakehouse: Lakehouse, encoder: Encoder) -> pl.DataFrame:
    """Return the content_hash of each text that trains or evaluates a task under an encoder."""
    labels = labels_in(lakehouse, encoder.languages)
    return pl.concat([examples(task, labels).select("content_hash") for task in TASKS.values()]).unique()


def distinct_texts(lakehouse: Lakehouse, days: Sequence[str], training: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """Return hash, title, text and day of each distinct text of these days: documents, and labelled training texts.

    Args:
        lakehouse: the tables.
        days: ISO dates.
        training: returns the content_hash of each training text; a choice among all labels, asked for only if needed.
    """
    parts = [
        lakehouse.scan("silver/pages", days).select("content_hash", DAY, "title", "text").collect(),
        lakehouse.scan("silver/messages", days).select("content_hash", DAY, "text").collect(),
    ]
    labelled = lakehouse.scan("silver/labels", days).filter(pl.col("task").is_in(TEACHING))
    labelled = labelled.select("content_hash", DAY, "text").collect()
    if labelled.height:
        parts.append(labelled.join(training(), on="content_hash", how="semi"))
    return (
        pl.concat(parts, how="diagonal")
        .sort(DAY, "content_hash")
        .unique("content_hash", keep="first", maintain_order=True)
    )


def unencoded(lakehouse: Lakehouse, texts: pl.DataFrame, encoder_id: str) -> pl.DataFrame:
    """Return the texts that have no vector yet."""
    keys = texts.select("content_hash", encoder_id=pl.lit(encoder_id))
    held, _ = KeyIndex(lakehouse, TABLE).stored(keys, [])
    return texts.join(held, on="content_hash", how="anti", maintain_order="left")


def encode(texts: pl.DataFrame, encoder: Encoder) -> npt.NDArray[np.float32]:
    """Return the vectors of texts, (texts, dimensions); a ``title`` is encoded with its text, as for scoring."""
    titles = texts["title"] if "title" in texts.columns else [None] * texts.height
    return encoder.encode(document_texts(titles, texts["text"]))


def encoded(texts: pl.DataFrame, encoder: Encoder) -> pl.DataFrame:
    """Return rows of this table for texts."""
    return rows_of(texts, encode(texts, encoder), encoder.encoder_id)


def rows_of(texts: pl.DataFrame, vectors: npt.NDArray[np.float32], encoder_id: str) -> pl.DataFrame:
    """Return rows of this table for texts and their vectors, (texts, dimensions)."""
    column = pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])).cast(pl.List(pl.Float32))
    rows = texts.select("content_hash", DAY).with_columns(vector=column, encoder_id=pl.lit(encoder_id))
    return rows.select(SCHEMA.keys())
