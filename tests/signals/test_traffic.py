from hashlib import sha256

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.traffic import ARMS, Traffic, arm, assigned, in_share

HASHES = [sha256(str(number).encode()).hexdigest() for number in range(4_000)]
DOCUMENTS = pl.DataFrame({"content_hash": HASHES})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_a_share_holds_about_its_part_of_all_documents(share):
    found = DOCUMENTS.select(in_share(share)).to_series()
    assert found.mean() == pytest.approx(share, abs=0.02)


def test_a_share_is_independent_of_which_labels_are_held_out():
    held_out = pl.col("content_hash").str.slice(0, 8).str.to_integer(base=16) / 16**8 < 0.2
    found = DOCUMENTS.filter(held_out).select(in_share(0.3)).to_series()
    assert found.mean() == pytest.approx(0.3, abs=0.05)


@settings(max_examples=30, deadline=None)
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


def test_each_row_has_one_version_and_each_decision_one_arm():
    traffic = {"hate": Traffic(1), "irony": Traffic(3, challenger=4, share=0.5), "threat": Traffic(5, challenger=6)}
    rows = pl.DataFrame({"task": ["hate", "irony", "irony", "threat", "other"]}).with_columns(
        content_hash=pl.Series(["0" * 64, "0" * 64, "f" * 64, "0" * 64, "0" * 64])
    )
    assert rows.select(assigned(traffic)).to_series().to_list() == [1, 4, 3, 5, None]
    both = rows.filter(pl.col("task") == "irony").join(pl.DataFrame({"model_version": [3, 4]}), how="cross")
    assert both.select(arm(traffic)).to_series().to_list() == ["shadow", "challenger", "champion", "shadow"]
    shadow = rows.filter(pl.col("task") == "threat").join(pl.DataFrame({"model_version": [5, 6]}), how="cross")
    assert shadow.select(arm(traffic)).to_series().to_list() == ["champion", "shadow"]
    assert set(both.select(arm(traffic)).to_series()) <= set(ARMS)
    assert rows.select(assigned({})).to_series().null_count() == rows.height
