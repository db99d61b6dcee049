"""The stream worker's cache of embeddings: every text is encoded once.

A vector comes from this process's memory, else from silver/embeddings, else from the encoder. A text whose key the
index does not hold, or whose vector is in memory, costs no read of the table.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import polars as pl

from platform_assets.silver import embeddings
from resources.encoder import Encoder
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse

# Vectors in memory: 75 MB.
MAX_VECTORS = 50_000
Vectors = dict[str, npt.NDArray[np.float32]]


class EmbeddingCache:
    """Vectors by content hash, under one encoder. ``encode_missing`` may run in a thread beside ``vectors``."""

    def __init__(self, lakehouse: Lakehouse, encoder: Encoder) -> None:
        self.lakehouse, self.encoder = lakehouse, encoder
        self._recent: Vectors = {}
        self._keys = KeyIndex(lakehouse, embeddings.TABLE)
        self._keys.refresh()

    def encode_missing(self, texts: Iterable[tuple[str, str]]) -> Vectors:
        """Encode the texts, given as (content hash, text), that the table does not hold as far as the index shows."""
        distinct = dict(texts)
        is_stored = self._is_stored(list(distinct))
        missing = {name: distinct[name] for name, stored in zip(distinct, is_stored, strict=True) if not stored}
        return dict(zip(missing, self.encoder.encode(list(missing.values())), strict=True))

    def vectors(self, texts: pl.DataFrame, prefetched: Mapping[str, npt.NDArray[np.float32]]) -> pl.DataFrame:
        """Return content_hash and vector of each distinct text; encode and store those that have no vector yet.

        Args:
            texts: content_hash, text, event_date, and ``title`` where texts have one.
            prefetched: vectors that ``encode_missing`` has returned.
        """
        version = self._keys.refresh()
        texts = texts.unique("content_hash", keep="first", maintain_order=True)
        hashes = texts["content_hash"].to_list()
        vectors = {name: source[name] for source in (prefetched, self._recent) for name in hashes if name in source}
        is_stored = self._is_stored(hashes)
        vectors |= self._read_stored(
            [name for name, stored in zip(hashes, is_stored, strict=True) if stored and name not in vectors]
        )
        unencoded = texts.filter(~pl.col("content_hash").is_in(list(vectors)))
        encoded = embeddings.encode(unencoded, self.encoder)
        vectors |= dict(zip(unencoded["content_hash"], encoded, strict=True))
        stacked = np.stack([vectors[name] for name in hashes]) if hashes else encoded
        rows = embeddings.rows_of(texts, stacked, self.encoder.encoder_id)
        missing = rows.filter(~is_stored)
        if missing.height:
            self.lakehouse.insert_missing(embeddings.TABLE, missing, embeddings.KEY, looked_at=version)
            self._keys.refresh()
        for name in hashes:
            self._recent.pop(name, None)
            self._recent[name] = vectors[name]
        for name in list(islice(self._recent, max(len(self._recent) - MAX_VECTORS, 0))):
            del self._recent[name]
        return rows.select("content_hash", "vector")

    def _is_stored(self, hashes: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return for each content hash whether the table holds its vector."""
        keys = pl.Series("content_hash", hashes, dtype=pl.String).to_frame()
        return self._keys.has(keys.with_columns(encoder_id=pl.lit(self.encoder.encoder_id)))

    def _read_stored(self, hashes: Sequence[str]) -> Vectors:
        if not hashes:
            return {}
        texts = pl.Series("content_hash", hashes, dtype=pl.String).to_frame()
        rows = embeddings.stored_vectors(self.lakehouse, texts, self.encoder.encoder_id)
        return {name: np.array(vector, np.float32) for name, vector in rows.rows()}
