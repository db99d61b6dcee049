"""The encoder in half precision, on the CPU here: what the GPU does is what torch does anywhere, but for its speed."""

import logging
import random

import numpy as np
import pytest

from resources.encoder import packaged_weights, tokenizer
from signals.models.encoder import Int8Encoder
from signals.models.encoder_torch import HalfEncoder

torch = pytest.importorskip("torch")
CHANCE = random.Random(3)
WORDS = ["harbour", "ships", "came", "7", "the", "!", "ünïcode", "😀", "unbelievably"]
TEXTS = ["", "a", *(" ".join(CHANCE.choices(WORDS, k=CHANCE.randint(1, 120))) for _ in range(20))]


@pytest.fixture(scope="module")
def vectors():
    return encoder("cpu").encode(TEXTS)


def encoder(device):
    return HalfEncoder(packaged_weights(), tokenizer(), device)


class Failing(HalfEncoder):
    """An encoder whose GPU fails as told, with the CPU in its place until then."""

    def __init__(self, error, most=0):
        super().__init__(packaged_weights(), tokenizer())
        self.error, self.most, self.batches, self.on_cpu = error, most, [], encoder("cpu")

    def _vectors(self, ids):
        self.batches.append(len(ids))
        if self.device == "cuda" and len(ids) > self.most:
            raise self.error
        return self.on_cpu._vectors(ids)


def test_texts_have_unit_vectors_in_their_order_close_to_those_of_int8(vectors):
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    int8 = Int8Encoder(packaged_weights(), tokenizer()).encode(TEXTS)
    own, others = np.diag(vectors @ int8.T), vectors @ int8.T
    assert own.mean() > 0.995
    assert own.min() > 0.97
    assert (others.argmax(axis=1) == np.arange(len(TEXTS))).mean() > 0.9
    assert encoder("cpu").encode([]).shape == (0, 384)


def test_the_identity_is_another_than_that_of_int8_and_names_precision_and_weights(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(packaged_weights().read_bytes()[:-1] + b"?")
    identities = {
        encoder("cuda").identity,
        HalfEncoder(weights, tokenizer()).identity,
        Int8Encoder(packaged_weights(), tokenizer()).identity,
    }
    assert len(identities) == 3
    assert encoder("cuda").identity == encoder("cpu").identity
    assert encoder("cuda").identity.startswith("fp16:")


def test_batches_are_halved_until_they_fit_and_stay_so(vectors):
    failing = Failing(torch.OutOfMemoryError("CUDA out of memory"), most=5)
    failing.texts_at_once = 16
    assert np.allclose(failing.encode(TEXTS), vectors, atol=1e-3)
    assert failing.batches[:3] == [16, 8, 4]
    assert max(failing.batches[2:]) == failing.texts_at_once == 4
    assert not failing.lost
    failing.encode(TEXTS[:9])
    assert failing.batches[-3:] == [4, 4, 1]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: an illegal access\nand much more")],
    ids=["memory", "device"],
)
def test_a_gpu_that_fails_is_left_with_one_warning_and_no_text_is_lost(vectors, error, caplog):
    failing = Failing(error)
    failing.texts_at_once = 2
    identity = failing.identity
    with caplog.at_level(logging.WARNING):
        assert np.allclose(failing.encode(TEXTS[:8]), vectors[:8], atol=1e-3)
        failing.encode(TEXTS[:2])
    assert (failing.lost, failing.device, failing.identity) == (True, "cpu", identity)
    (said,) = caplog.messages
    assert str(error).split("\n")[0] in said
    assert "much more" not in said


def test_a_fault_of_the_cpu_is_no_fault_of_the_gpu():
    failing = Failing(RuntimeError("no memory"))
    failing.device = "cpu"
    failing._vectors = failing.on_cpu._vectors = lambda _: (_ for _ in ()).throw(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        failing.encode(["a"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_vectors_that_the_cpu_gives(vectors):
    assert np.allclose(encoder("cuda").encode(TEXTS), vectors, atol=1e-2)
