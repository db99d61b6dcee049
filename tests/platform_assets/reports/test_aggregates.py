import polars as pl
import pytest

from platform_assets.reports.aggregates import concentration


def test_concentration_names_the_fewest_that_hold_half():
    rows = pl.DataFrame({"site": ["a", "b", "c", "d"], "n": [5, 1, 3, 0]})
    assert concentration(rows, "site", "n") == (["a"], pytest.approx(5 / 9))
    assert concentration(rows.clear(), "site", "n") == ([], 0.0)
