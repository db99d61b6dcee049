from hashlib import sha256
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.splits import CALIBRATION, HELD_OUT, TRAFFIC, calibrates, held_out, in_share

HASHES = [sha256(str(number).encode()).hexdigest() for number in range(4_000)]
DOCUMENTS = pl.DataFrame({"content_hash": HASHES})
PARTS = {"held out": held_out(), "calibrates": calibrates(), "traffic": in_share(0.3)}


def test_no_digit_places_a_text_for_two_purposes():
    digits = [set(range(first, first + number)) for first, number in (HELD_OUT, TRAFFIC, CALIBRATION)]
    assert all(one.isdisjoint(other) for one, other in combinations(digits, 2))
    assert max(max(one) for one in digits) < 64


@pytest.mark.parametrize(("one", "other"), combinations(PARTS, 2))
def test_a_part_for_one_purpose_says_nothing_of_a_part_for_another(one, other):
    within = DOCUMENTS.filter(PARTS[one]).select(PARTS[other]).to_series().mean()
    assert within == pytest.approx(DOCUMENTS.select(PARTS[other]).to_series().mean(), abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_a_share_holds_about_its_part_of_all_documents(share):
    found = DOCUMENTS.select(in_share(share)).to_series()
    assert found.mean() == pytest.approx(share, abs=0.02)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(HASHES), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_document_stays_in_any_larger_share_whatever_comes_with_it(hashes, one, other):
    rows = pl.DataFrame({"content_hash": hashes})
    small, large = (rows.select(in_share(share)).to_series() for share in sorted((one, other)))
    assert (small & ~large).sum() == 0
    first = rows.head(1).select(in_share(one)).item()
    assert rows.select(in_share(one)).to_series()[0] == first


def test_what_is_no_hash_is_the_champions():
    rows = pl.DataFrame({"content_hash": ["", "no hash at all", None]}, schema={"content_hash": pl.String})
    assert rows.select(in_share(1.0)).to_series().to_list() == [False] * 3
