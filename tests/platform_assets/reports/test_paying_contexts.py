import polars as pl
import pytest

from platform_assets.reports.paying_contexts import interval


def test_the_interval_holds_the_rate_and_stays_between_none_and_all():
    low, high = interval(pl.col("k"), pl.col("n"))
    got = pl.DataFrame({"k": [0, 5, 10, 12], "n": [10, 10, 10, 10]}).select(low=low, high=high)
    assert ((got["low"] >= -1e-9) & (got["high"] <= 1 + 1e-9)).all()
    assert got.row(1) == pytest.approx((0.269, 0.731), abs=0.001)
