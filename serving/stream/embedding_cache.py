"""The vectors that a stream worker remembers, and which others silver/embeddings has: no text is encoded twice.

Of a text that is new, or that came lately, nothing is looked up.
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

# Vectors that are remembered: 75 MB.
MOST = 50_000
Vectors = dict[str, npt.NDArray[np.float32]]


class EmbeddingCache:
    """Vectors of texts by their hash, under one encoder. One thread may have texts ``encoded`` beside another."""

    def __init__(self, lakehouse: Lakehouse, encoder: Encoder) -> None:
        self.lakehouse, self.encoder = lakehouse, encoder
        self._lately: Vectors = {}
        self._keys = KeyIndex(lakehouse, embeddings.TABLE)
        self._keys.refresh()

    def encoded(self, texts: Iterable[tuple[str, str]]) -> Vectors:
        """Return the vectors of those of some texts, given with their hashes, that have none yet as far as is known."""
        distinct = dict(texts)
        has = self._has(list(distinct))
        fresh = {name: distinct[name] for name, known in zip(distinct, has, strict=True) if not known}
        return dict(zip(fresh, self.encoder.encode(list(fresh.values())), strict=True))

    def vectors(self, texts: pl.DataFrame, prefetched: Mapping[str, npt.NDArray[np.float32]]) -> pl.DataFrame:
        """Return content_hash and vector of each distinct text; those that have never been encoded are, and are stored.

        Args:
            texts: content_hash, text, event_date, and ``title`` where texts have one.
            prefetched: vectors that have been made of some of them.
        """
        version = self._keys.refresh()
        texts = texts.unique("content_hash", keep="first", maintain_order=True)
        names = texts["content_hash"].to_list()
        found = {name: known[name] for known in (prefetched, self._lately) for name in names if name in known}
        stored = self._has(names)
        found |= self._looked_up(
            [name for name, known in zip(names, stored, strict=True) if known and name not in found]
        )
        waiting = texts.filter(~pl.col("content_hash").is_in(list(found)))
        encoded = embeddings.encode(waiting, self.encoder)
        found |= dict(zip(waiting["content_hash"], encoded, strict=True))
        every = np.stack([found[name] for name in names]) if names else encoded
        rows = embeddings.rows_of(texts, every, self.encoder.encoder_id)
        fresh = rows.filter(~stored)
        if fresh.height:
            self.lakehouse.insert_missing(embeddings.TABLE, fresh, embeddings.KEY, looked_at=version)
            self._keys.refresh()
        for name in names:
            self._lately.pop(name, None)
            self._lately[name] = found[name]
        for name in list(islice(self._lately, max(len(self._lately) - MOST, 0))):
            del self._lately[name]
        return rows.select("content_hash", "vector")

    def _has(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Say of each hash whether the table has it."""
        hashes = pl.Series("content_hash", names, dtype=pl.String)
        return self._keys.has(hashes.to_frame().with_columns(encoder_id=pl.lit(self.encoder.encoder_id)))

    def _looked_up(self, names: Sequence[str]) -> Vectors:
        if not names:
            return {}
        stored = self.lakehouse.scan(embeddings.TABLE).filter(
            pl.col("encoder_id") == self.encoder.encoder_id, pl.col("content_hash").is_in(names)
        )
        rows = stored.select("content_hash", "vector").collect()
        return {name: np.array(vector, np.float32) for name, vector in rows.rows()}
