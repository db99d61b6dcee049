"""What a transformation gives for its probes, kept and tested."""

from dataclasses import replace

import numpy as np
import pytest

from resources import transform_probes
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.transform_probes import OtherMachineError, keep_or_test, outputs, stored


@pytest.fixture(scope="module")
def now():
    return outputs(Encoder())


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path))


@pytest.fixture
def here(lake, now, monkeypatch):
    """Keep what the first machine gives, and return a function that tests another one, which gives something else."""
    encoder = Encoder()
    keep_or_test(lake, encoder)

    def gives(**other):
        monkeypatch.setattr(transform_probes, "outputs", lambda _: replace(now, **other))
        keep_or_test(lake, encoder)

    return gives


def test_what_was_kept_is_read_again_to_the_last_digit(lake, now):
    assert stored(lake, Encoder().transform_id) is None
    keep_or_test(lake, Encoder())
    kept = stored(lake, Encoder().transform_id)
    assert kept == now
    assert kept.array.tobytes() == now.array.tobytes()
    assert np.allclose(np.linalg.norm(kept.array, axis=1), 1, atol=1e-5)
    assert "harbour was closed" in kept.texts[-1]


def test_a_machine_that_rounds_otherwise_passes_and_one_that_computes_otherwise_is_named(here, now):
    here(vectors=(now.array + 1e-4).tolist())
    other = now.array.copy()
    other[2] = np.roll(other[2], 1)
    with pytest.raises(OtherMachineError, match="the vector of probe 3 has cosine"):
        here(vectors=other.tolist())
    with pytest.raises(OtherMachineError, match="probe 1 reads 'x', read 'The council"):
        here(texts=["x", *now.texts[1:]])
