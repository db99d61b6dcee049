import numpy as np
import pytest

from signals.models.sentence_encoder import SentenceEncoder
from tests.encoders import tiny_model

TEXTS = ["the cup final", "la finale de la coupe, encore", "", "the cup final"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"), languages=["en", "fr"])


def test_vectors_are_those_of_the_library_alone_or_in_company(folder):
    encoder = SentenceEncoder(folder)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (4, encoder.dimensions) == (4, 16)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert np.array_equal(vectors[1], encoder.encode(TEXTS[1:2])[0])
    assert np.array_equal(vectors[0], vectors[3])
    assert encoder.encode([]).shape == (0, 16)


def test_its_files_are_its_identity(folder, tmp_path_factory):
    same = tiny_model(tmp_path_factory.mktemp("same"), languages=["en", "fr"])
    other = tiny_model(tmp_path_factory.mktemp("other"), languages=["en", "fr"], seed=1)
    assert SentenceEncoder(same).identity == SentenceEncoder(folder).identity != SentenceEncoder(other).identity


@pytest.mark.parametrize(("stated", "languages"), [(["en", "fr"], ("en", "fr")), ("multilingual", None), (None, None)])
def test_it_reads_the_languages_that_its_card_states_or_any(stated, languages, tmp_path):
    assert SentenceEncoder(tiny_model(tmp_path, languages=stated)).languages == languages
