from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.silver import embeddings
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from serving.stream import embedding_cache
from serving.stream.embedding_cache import EmbeddingCache
from signals.documents.text import content_hash
from signals.models.encoder import DIMENSIONS

TEXTS = [f"text {number}" for number in range(12)]


class CountingEncoder:
    """An encoder whose vectors name their texts, and that counts how often each is encoded."""

    encoder_id = "e1"

    def __init__(self):
        self.encoded = []

    def encode(self, texts):
        self.encoded += texts
        return np.array([[float(text.split()[-1])] * DIMENSIONS for text in texts], np.float32).reshape(-1, DIMENSIONS)


def frame(texts, day="2026-11-10"):
    rows = [(content_hash(text), text, date.fromisoformat(day)) for text in texts]
    return pl.DataFrame(rows, schema={"content_hash": pl.String, "text": pl.String, DAY: pl.Date}, orient="row")


def made(path):
    lake, encoder = Lakehouse(uri=str(path)), CountingEncoder()
    if not lake.exists(embeddings.TABLE):
        lake.insert_missing(embeddings.TABLE, pl.DataFrame(schema=embeddings.SCHEMA), embeddings.KEY)
    return lake, encoder, EmbeddingCache(lake, encoder)


def stored(lake):
    return sorted(lake.read(embeddings.TABLE)["content_hash"])


def right(found, texts):
    told = {name: vector[0] for name, vector in found.rows()}
    return told == {content_hash(text): float(text.split()[-1]) for text in texts}


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from(TEXTS), max_size=6), max_size=6), st.integers(1, 4), st.data())
def test_each_text_is_encoded_once_whatever_comes_and_is_forgotten(tmp_path_factory, batches, most, data):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(embedding_cache, "MAX_VECTORS", most)
        lake, encoder, cache = made(tmp_path_factory.mktemp("lake"))
        for number, texts in enumerate(batches):
            ahead = {}
            if data.draw(st.booleans()):
                ahead = cache.encode_missing((content_hash(text), text) for text in texts)
            if data.draw(st.booleans()):
                cache = EmbeddingCache(lake, encoder)
            assert right(cache.vectors(frame(texts, f"2026-11-{number + 1:02d}"), ahead), texts)
        distinct = {text for texts in batches for text in texts}
        assert sorted(encoder.encoded) == sorted(distinct)
        assert stored(lake) == sorted(content_hash(text) for text in distinct)


def test_what_another_has_stored_is_looked_up_and_not_encoded(tmp_path):
    lake, encoder, cache = made(tmp_path)
    assert right(cache.vectors(frame(TEXTS[:2]), {}), TEXTS[:2])
    other, rival = CountingEncoder(), frame(TEXTS[2:4])
    rows = embeddings.rows_of(rival, other.encode(rival["text"].to_list()), encoder.encoder_id)
    foreign = embeddings.rows_of(frame(TEXTS[4:5]), other.encode(TEXTS[4:5]), "e2")
    lake.insert_missing(embeddings.TABLE, pl.concat([rows, foreign]), embeddings.KEY)
    assert right(cache.vectors(frame(TEXTS[:5]), {}), TEXTS[:5])
    assert encoder.encoded == [*TEXTS[:2], TEXTS[4]]


def test_a_vector_that_was_made_twice_at_once_is_stored_once(tmp_path):
    lake, encoder, cache = made(tmp_path)
    ahead = dict(zip([content_hash(TEXTS[0])], encoder.encode(TEXTS[:1]), strict=True))
    for _ in range(2):
        assert right(cache.vectors(frame(TEXTS[:1]), ahead), TEXTS[:1])
    assert stored(lake) == [content_hash(TEXTS[0])]


def test_nothing_in_nothing_out(tmp_path):
    lake, encoder, cache = made(tmp_path)
    assert cache.vectors(frame([]), {}).is_empty()
    assert (cache.encode_missing([]), encoder.encoded, stored(lake)) == ({}, [], [])
