import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.models.ngrams import CHUNK, FEATURES, MAX_CHARACTERS, WORD_BITS, ngrams

TEXTS = st.lists(
    st.text(st.characters(exclude_categories=())) | st.sampled_from(["", " ", "a", "İ", "red fox", "😀❤️", "\ud83d"]),
    max_size=6,
)
FINGERPRINT = """
import hashlib, sys
from signals.models.ngrams import ngrams
found = ngrams(["the red fox", "", "Ünïcode 😀 text", "שלום"])
sys.stdout.write(hashlib.sha256(b"".join(a.tobytes() for a in (found.data, found.indices, found.indptr))).hexdigest())
"""


def row(matrix, index):
    part = slice(matrix.indptr[index], matrix.indptr[index + 1])
    return matrix.indices[part].tolist(), matrix.data[part].tobytes()


def lengths(matrix):
    return np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())


@settings(max_examples=60)
@given(TEXTS)
@example(["red fox", "", "red fox", " "])
def test_a_row_is_the_same_alone_and_in_any_batch(texts):
    together, backwards = ngrams(texts), ngrams(texts[::-1])
    for index, text in enumerate(texts):
        alone = row(ngrams([text]), 0)
        assert row(together, index) == alone
        assert row(backwards, len(texts) - 1 - index) == alone


def test_a_row_is_the_same_on_either_side_of_a_chunk():
    texts = [f"word{i} and fox" for i in range(2 * CHUNK + 1)]
    together = ngrams(texts)
    assert together.shape == (len(texts), FEATURES)
    for index in (0, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK):
        assert row(together, index) == row(ngrams([texts[index]]), 0)


@settings(max_examples=60)
@given(TEXTS)
@example(["", "  ", "red fox", "x"])
def test_each_half_of_a_row_has_unit_length_or_is_empty(texts):
    found = ngrams(texts)
    assert found.dtype == np.float32
    for half in (found[:, : 2**WORD_BITS], found[:, 2**WORD_BITS :]):
        assert all(length == 0 or abs(length - 1) < 1e-5 for length in lengths(half))
    assert [any(not c.isspace() for c in text) for text in texts] == list(lengths(found[:, : 2**WORD_BITS]) > 0)


def test_no_texts_make_no_rows():
    found = ngrams([])
    assert found.shape == (0, FEATURES)
    assert found.dtype == np.float32


def test_an_empty_text_makes_an_empty_row():
    assert ngrams([""]).nnz == 0
    assert ngrams(["", "fox", ""]).getnnz(axis=1).tolist()[::2] == [0, 0]


def test_a_long_text_is_read_to_its_limit():
    long = "red fox, " * 120_000
    assert row(ngrams([long]), 0) == row(ngrams([long[:MAX_CHARACTERS]]), 0)
    assert row(ngrams([long]), 0) != row(ngrams([long[: MAX_CHARACTERS // 2]]), 0)
    assert ngrams(["x" * 1_000_000])[:, : 2**WORD_BITS].nnz == 1


def test_every_character_of_unicode_can_be_read():
    texts = ["".join(map(chr, range(start, start + 1_000))) for start in range(0, 0x110000 - 1_000, 1_000)]
    found = ngrams(texts)
    assert np.isfinite(found.data).all()
    assert found.getnnz(axis=1).min() > 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("red fox", "fox red"), ("😀", "😡"), ("fox", "foxes"), ("fox!", "fox"), ("fox", "fox fox"), ("סגול", "שלום")],
)
def test_words_their_order_signs_and_counts_tell_texts_apart(one, other):
    assert row(ngrams([one]), 0) != row(ngrams([other]), 0)


def test_capitals_tell_nothing():
    assert row(ngrams(["Red FOX"]), 0) == row(ngrams(["red fox"]), 0)


def test_similar_words_share_characters():
    found = ngrams(["the colours of autumn", "the colour of autumn", "quarterly bank results"])
    likeness = (found @ found.T).toarray()
    assert likeness[0, 1] > 3 * likeness[0, 2]


def test_another_process_finds_the_same():
    texts = ["the red fox", "", "Ünïcode 😀 text", "שלום"]
    found = ngrams(texts)
    here = hashlib.sha256(b"".join(a.tobytes() for a in (found.data, found.indices, found.indptr))).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", FINGERPRINT], env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True
    )
    assert there.stdout.decode() == here
