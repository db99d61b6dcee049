from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.models import drift
from signals.models.drift import ALPHA, LEAST_DIVERGENCE, LEAST_SHIFT, Measure, Reference, divergence, reference, shift

DIMENSIONS = 40
# As of embeddings, a few directions hold most of the spread.
SCALES = 1 / np.sqrt(np.arange(1, DIMENSIONS + 1))
LABELS = [f"label-{i}" for i in range(37)]
POPULAR = np.arange(1, 38) / np.arange(1, 38).sum()
COUNTS = st.dictionaries(st.sampled_from(LABELS[:6]), st.integers(1, 400), min_size=1)


def vectors(chance, rows, moved=0.0):
    """Return vectors whose mean is moved by a share of their spread."""
    away = np.zeros(DIMENSIONS)
    away[5] = moved * np.sqrt(np.square(SCALES).sum())
    return (chance.normal(size=(rows, DIMENSIONS)) * SCALES + away).astype(np.float32)


def answers(chance, rows, shares=POPULAR):
    return Counter(dict(zip(LABELS, chance.multinomial(rows, shares).tolist(), strict=True)))


@pytest.mark.parametrize("rows", [50, 400])
def test_vectors_of_one_source_seldom_pass_what_chance_allows(rows, monkeypatch):
    monkeypatch.setattr(drift, "LEAST_SHIFT", 0.0)
    chance = np.random.default_rng(1)
    found = [shift(vectors(chance, rows), reference(vectors(chance, 300), {})).drifted for _ in range(300)]
    assert 0 < np.mean(found) <= ALPHA * 3


def test_a_shift_is_found_and_the_larger_the_sample_the_smaller_the_shift_that_is():
    chance = np.random.default_rng(2)

    def found(rows, moved):
        trained = reference(vectors(chance, 2_000), {})
        return np.mean([shift(vectors(chance, rows, moved), trained).drifted for _ in range(50)])

    assert found(50, 0.5) == 1.0
    assert found(10, 0.3) < 0.5 < found(400, 0.3)
    # What does not matter is no drift, however surely it is there.
    assert found(4_000, LEAST_SHIFT - 0.05) == 0.0


def test_a_shift_is_measured_in_units_of_the_spread():
    chance = np.random.default_rng(3)
    measured = shift(vectors(chance, 20_000, moved=0.6), reference(vectors(chance, 20_000), {}))
    assert measured.value == pytest.approx(0.6, abs=0.02)
    assert measured.limit == LEAST_SHIFT


@pytest.mark.parametrize(("rows", "kept"), [(50, 75), (158, 202), (1_000, 60)])
def test_answers_of_one_source_seldom_pass_what_chance_allows(rows, kept):
    chance = np.random.default_rng(4)
    found = [divergence(answers(chance, rows), answers(chance, kept)).drifted for _ in range(100)]
    assert np.mean(found) <= ALPHA * 3


def test_answers_on_other_labels_are_found():
    chance = np.random.default_rng(5)
    found = [divergence(answers(chance, 60, POPULAR[::-1]), answers(chance, 200)).drifted for _ in range(10)]
    assert all(found)
    large = divergence(Counter(a=9_000, b=1_000), Counter(a=9_010, b=990))
    assert large.limit == LEAST_DIVERGENCE
    assert not large.drifted


@settings(max_examples=30)
@given(COUNTS, COUNTS)
def test_a_divergence_is_symmetrical_and_between_nothing_and_all(one, other):
    value = divergence(one, other).value
    assert value == pytest.approx(divergence(other, one).value)
    assert 0 <= value <= 1 + 1e-9
    assert divergence(one, {label: 3 * n for label, n in one.items()}).value == pytest.approx(0, abs=1e-6)
    if not one.keys() & other.keys():
        assert value == pytest.approx(1)


def test_a_reference_is_kept_as_text_and_is_the_same_for_the_same_rows():
    rows = vectors(np.random.default_rng(6), 100)
    kept = reference(rows, {"yes": 3, "no": 7})
    assert Reference.load(kept.dump()) == kept
    assert reference(rows.copy(), {"yes": 3, "no": 7}).dump() == kept.dump()
    assert (kept.rows, len(kept.mean)) == (100, DIMENSIONS)
    assert kept.spread == pytest.approx(np.square(rows - rows.mean(axis=0)).sum() / 99, rel=1e-4)


def test_without_vectors_a_reference_has_answers_alone():
    kept = reference(np.zeros((0, 0), np.float32), {"safe": 4})
    assert (kept.rows, kept.mean, kept.answers) == (0, (), {"safe": 4})


def test_what_is_at_its_limit_has_not_drifted():
    assert [Measure(value, 0.2).drifted for value in (0.1, 0.2, 0.21)] == [False, False, True]
