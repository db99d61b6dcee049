import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.documents.text import normalise
from signals.models.encoder import DIMENSIONS
from signals.models.heads import LinearHead, directory_digest, load_head, softmax
from signals.models.ngrams import FEATURES, ngrams

TEXTS = ["The red fox jumped over the hill.", "", "😀❤️ great!", "Bank results fell in the third quarter.", "שלום עולם"]
LABELS = ("none", "some", "much", "all")


def random_head(labels=LABELS, temperature=0.7):
    rng = np.random.default_rng(5)
    vector, ngram, bias = (
        (rng.standard_normal((n, len(labels))) * 3).astype(np.float32) for n in (DIMENSIONS, FEATURES, 1)
    )
    return LinearHead(labels, vector, ngram, bias[0], temperature)


@pytest.fixture(scope="module")
def head():
    return random_head()


@pytest.fixture(scope="module")
def vectors(encoder):
    return encoder.encode(TEXTS)


@pytest.fixture
def saved(head, tmp_path):
    head.save(tmp_path, task="threat", transform_id="0123456789abcdef")
    return tmp_path


def test_a_saved_head_scores_to_the_bit_as_before(head, vectors, saved):
    again = load_head(saved)
    assert again.labels == LABELS
    assert again.temperature == head.temperature
    assert again.scores(vectors, ngrams(TEXTS)).tobytes() == head.scores(vectors, ngrams(TEXTS)).tobytes()
    assert again.logits(vectors, ngrams(TEXTS)).tobytes() == head.logits(vectors, ngrams(TEXTS)).tobytes()


def test_the_files_are_json_and_safetensors_and_nothing_else(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "weights.safetensors"]
    described = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    assert described == {
        "family": "linear-head",
        "labels": list(LABELS),
        "temperature": 0.7,
        "sure_from": 0.0,
        "languages": ["en"],
        "task": "threat",
        "transform_id": "0123456789abcdef",
    }
    weights = (saved / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + length])
    assert {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items()} == {
        "bias": ("F32", [4]),
        "ngram": ("F32", [FEATURES, 4]),
        "vector": ("F32", [DIMENSIONS, 4]),
    }
    assert len(weights) == 8 + length + 4 * 4 * (FEATURES + DIMENSIONS + 1)


def test_the_same_head_saves_to_the_same_files(head, saved, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    head.save(other, transform_id="0123456789abcdef", task="threat")
    assert directory_digest(other) == directory_digest(saved)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_the_digest_changes_with_any_byte(saved, name):
    before = directory_digest(saved)
    path = saved / name
    content = bytearray(path.read_bytes())
    for place in (0, len(content) // 2, len(content) - 1):
        content[place] ^= 1
        path.write_bytes(content)
        assert directory_digest(saved) != before
        content[place] ^= 1
    path.write_bytes(content)
    assert directory_digest(saved) == before


def test_the_digest_changes_with_a_name_and_with_another_file(saved):
    before = directory_digest(saved)
    (saved / "more.txt").write_bytes(b"")
    assert directory_digest(saved) != before
    (saved / "more.txt").unlink()
    (saved / "model.json").rename(saved / "model.yaml")
    assert directory_digest(saved) != before


@settings(max_examples=25)
@given(st.lists(st.integers(0, len(TEXTS) - 1), max_size=40))
def test_scores_are_the_same_alone_and_in_any_batch(head, vectors, order):
    alone = [head.scores(vectors[i : i + 1], ngrams([TEXTS[i]]))[0] for i in range(len(TEXTS))]
    together = head.scores(vectors[order], ngrams([TEXTS[i] for i in order]))
    assert together.shape == (len(order), len(LABELS))
    assert all(found.tobytes() == alone[i].tobytes() for found, i in zip(together, order, strict=True))


def test_vectors_too_are_the_same_alone_and_in_any_batch(encoder, vectors):
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert alone.tobytes() == vectors.tobytes()
    assert encoder.encode(TEXTS[::-1])[::-1].tobytes() == vectors.tobytes()


@settings(max_examples=25)
@given(st.lists(st.text(max_size=50), min_size=1, max_size=4))
def test_scores_are_probabilities_whatever_the_text(head, encoder, texts):
    texts = [normalise(text) for text in texts]
    scores = head.scores(encoder.encode(texts), ngrams(texts))
    assert scores.dtype == np.float64
    assert (scores >= 0).all()
    assert np.allclose(scores.sum(axis=1), 1.0, rtol=0, atol=1e-12)


def test_no_texts_have_no_scores(head):
    assert head.scores(np.zeros((0, DIMENSIONS), np.float32), ngrams([])).shape == (0, len(LABELS))


def test_temperature_softens_without_changing_the_answer(vectors):
    sharp, soft = (random_head(temperature=t).scores(vectors, ngrams(TEXTS)) for t in (0.5, 5.0))
    assert (sharp.argmax(axis=1) == soft.argmax(axis=1)).all()
    assert (sharp.max(axis=1) > soft.max(axis=1)).all()


def test_softmax_survives_large_logits():
    found = softmax(np.array([[1e4, 0.0], [-1e4, -1e4], [0.0, np.log(3.0)]]))
    assert np.allclose(found, [[1, 0], [0.5, 0.5], [0.25, 0.75]])
