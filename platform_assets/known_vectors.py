"""The vectors that a stream worker remembers, and which others silver/embeddings has: no text is encoded twice.

The table is read at the start, and again only after another has written to it: of a text that is new, or that came
lately, nothing is looked up.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import polars as pl

from platform_assets.silver import embeddings
from resources.encoder import Encoder
from resources.lakehouse import Lakehouse

# Vectors that are remembered: 75 MB.
MOST = 50_000
Vectors = dict[str, npt.NDArray[np.float32]]


class KnownVectors:
    """Vectors of texts by their hash, under one encoder. One thread may have texts ``encoded`` beside another."""

    def __init__(self, lakehouse: Lakehouse, encoder: Encoder) -> None:
        self.lakehouse, self.encoder = lakehouse, encoder
        self._lately: Vectors = {}
        self._version: int | None = None
        self._stored = np.empty(0, np.uint64)
        self._look()

    def encoded(self, texts: Iterable[tuple[str, str]]) -> Vectors:
        """Return the vectors of those of some texts, given with their hashes, that have none yet as far as is known."""
        distinct = dict(texts)
        has = self._has(list(distinct))
        fresh = {name: distinct[name] for name, known in zip(distinct, has, strict=True) if not known}
        return dict(zip(fresh, self.encoder.encode(list(fresh.values())), strict=True))

    def vectors(self, texts: pl.DataFrame, ahead: Mapping[str, npt.NDArray[np.float32]]) -> pl.DataFrame:
        """Return content_hash and vector of each distinct text; those that have never been encoded are, and are stored.

        Args:
            texts: content_hash, text, event_date.
            ahead: vectors that have been made of some of them.
        """
        self._look()
        texts = texts.unique("content_hash", keep="first", maintain_order=True)
        names = texts["content_hash"].to_list()
        found = {name: known[name] for known in (ahead, self._lately) for name in names if name in known}
        stored = self._has(names)
        found |= self._looked_up(
            [name for name, known in zip(names, stored, strict=True) if known and name not in found]
        )
        waiting = texts.filter(~pl.col("content_hash").is_in(list(found)))
        encoded = self.encoder.encode(waiting["text"].to_list())
        found |= dict(zip(waiting["content_hash"], encoded, strict=True))
        every = np.stack([found[name] for name in names]) if names else encoded
        rows = embeddings.rows_of(texts, every, self.encoder.encoder_id)
        self._store(rows.filter(~stored))
        for name in names:
            self._lately.pop(name, None)
            self._lately[name] = found[name]
        for name in list(islice(self._lately, max(len(self._lately) - MOST, 0))):
            del self._lately[name]
        return rows.select("content_hash", "vector")

    def _has(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Say of each hash whether the table has it."""
        asked, stored = _beginnings(pl.Series(names, dtype=pl.String)), self._stored
        places = np.minimum(np.searchsorted(stored, asked), max(len(stored) - 1, 0))
        return stored[places] == asked if len(stored) else np.zeros(len(asked), bool)

    def _looked_up(self, names: Sequence[str]) -> Vectors:
        if not names:
            return {}
        rows = self._rows().filter(pl.col("content_hash").is_in(names)).select("content_hash", "vector").collect()
        return {name: np.array(vector, np.float32) for name, vector in rows.rows()}

    def _look(self) -> None:
        """Read which texts the table has, unless it is as this worker has left it."""
        version = self.lakehouse.version(embeddings.TABLE)
        if version != self._version:
            names = self._rows().select("content_hash").collect()["content_hash"]
            self._stored, self._version = np.unique(_beginnings(names)), version

    def _store(self, rows: pl.DataFrame) -> None:
        if rows.is_empty():
            return
        self.lakehouse.insert_missing(embeddings.TABLE, rows, embeddings.KEY, looked_at=self._version)
        self._stored = np.union1d(self._stored, _beginnings(rows["content_hash"]))
        version, mine = self.lakehouse.version(embeddings.TABLE), (self._version or 0) + 1
        self._version = version if version == mine else None

    def _rows(self) -> pl.LazyFrame:
        of_encoder = pl.col("encoder_id") == self.encoder.encoder_id
        return self.lakehouse.scan(embeddings.TABLE).filter(of_encoder)


def _beginnings(names: pl.Series) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of hashes: enough to tell texts apart, in an eighth of the room."""
    return names.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
