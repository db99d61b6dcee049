import random

import numpy as np
import pytest

from resources.encoder import Encoder
from signals.models.encoder import Int8Encoder
from signals.models.transform import encoder_id, transform_id

CHANCE = random.Random(3)
WORDS = ["harbour", "ships", "came", "7", "the", "!", "ünïcode", "שלום", "😀", "unbelievably"]
TEXTS = [
    "",
    " ",
    "a",
    "😀😀🇳🇴👩‍👩‍👧",
    "Ships came in.",
    "\x00\ufffd\u200b",
    "x" * 300,
    *(" ".join(CHANCE.choices(WORDS, k=CHANCE.randint(1, 120))) for _ in range(28)),
]


@pytest.fixture(scope="module")
def encoder():
    return Encoder(threads=2)


@pytest.fixture(scope="module")
def alone(encoder):
    return np.concatenate([encoder.encode([text]) for text in TEXTS])


def test_a_text_has_one_unit_vector_of_finite_floats(alone):
    assert alone.shape == (len(TEXTS), 384)
    assert alone.dtype == np.float32
    assert np.isfinite(alone).all()
    assert np.allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)


def test_no_texts_have_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_a_text_has_the_same_vector_alone_and_in_a_batch_to_the_last_bit(encoder, alone):
    assert encoder.encode(TEXTS).tobytes() == alone.tobytes()


def test_a_text_has_the_same_vector_whoever_is_beside_it_and_in_whatever_order(encoder, alone):
    for size in (2, 7, 33, len(TEXTS)):
        chosen = CHANCE.sample(range(len(TEXTS)), size)
        assert encoder.encode([TEXTS[i] for i in chosen]).tobytes() == alone[chosen].tobytes()
    assert encoder.encode([TEXTS[4]] * 40).tobytes() == alone[[4] * 40].tobytes()


def test_the_number_of_threads_changes_no_bit(alone):
    assert Encoder(threads=1).encode(TEXTS[:12]).tobytes() == alone[:12].tobytes()


def test_different_texts_have_different_vectors_and_like_ones_are_close(encoder):
    cat, kitten, tax = encoder.encode(["A cat sleeps on the sofa.", "A kitten naps on a couch.", "Tax law changed."])
    assert cat @ kitten > 0.5 > cat @ tax


def test_a_megabyte_of_text_is_encoded_as_its_beginning(encoder):
    begin = "ships came into the harbour " * 60
    assert encoder.encode([begin + "and then " * 120_000]).tobytes() == encoder.encode([begin + "other end"]).tobytes()
    assert np.isfinite(encoder.encode(["x" * 1_000_000])).all()


def test_the_identity_names_weights_tokenizer_and_transformation(encoder, tmp_path):
    loaded = encoder._loaded
    assert encoder.transform_id == transform_id(loaded.identity)
    assert encoder.encoder_id == encoder_id(loaded.identity)
    weights = bytearray(loaded.weights.read_bytes())
    weights[len(weights) // 2] ^= 1
    other = tmp_path / "model.onnx"
    other.write_bytes(weights)
    same = tmp_path / "same.onnx"
    same.write_bytes(loaded.weights.read_bytes())
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(loaded.tokenizer.read_text() + " ")
    assert Int8Encoder(same, loaded.tokenizer).identity == loaded.identity
    found = {
        loaded.identity,
        Int8Encoder(other, loaded.tokenizer).identity,
        Int8Encoder(loaded.weights, tokenizer).identity,
    }
    assert len(found) == len({encoder_id(one) for one in found}) == len({transform_id(one) for one in found}) == 3


def test_the_number_of_threads_is_no_part_of_the_identity():
    assert Encoder(threads=1).transform_id == Encoder(threads=2).transform_id
