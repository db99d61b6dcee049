from datetime import date, timedelta

import polars as pl
import pytest

from platform_assets.reports.aggregates import ratio
from platform_assets.reports.page import headline, last_days
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from tests.support.reports import DAY_1, DAY_2, table


def test_a_headline_compares_the_halves_of_its_days():
    days = [DAY_1 + timedelta(days=i) for i in range(3)]
    rows = pl.DataFrame({DAY: days, "n": [10, 99, 15], "of": [100, 100, 100]})
    grown = headline("n", rows, pl.col("n").sum(), "count", rising="bad")
    assert (grown.value, grown.change.replace("\u00a0", " "), grown.tone) == ("124", "▲ 50.0 %", "bad")
    share = headline("n", rows, ratio(pl.col("n").sum(), pl.col("of").sum()), "percent", rising="good")
    assert (share.change, share.tone) == ("▲ 5.0 points", "good")
    assert len(share.line.split()) == 3


@pytest.mark.parametrize("kept", [0, 1])
def test_without_two_days_there_is_no_change(kept):
    rows = pl.DataFrame({DAY: [DAY_1], "n": [10]}).head(kept)
    alone = headline("n", rows, ratio(pl.col("n").sum(), pl.col("n").sum()), "percent")
    assert (alone.change, alone.tone, alone.line) == ("", "", "")


def test_a_page_looks_back_28_days_from_its_newest_day(tmp_path):
    lakehouse = Lakehouse(uri=str(tmp_path))
    days = [date(2026, 10, 1), date(2026, 10, 13), date(2026, 10, 14), DAY_2]
    rows = table("gold/inventory_daily", *({"format": "banner", "avails": 1, "filled": 1, DAY: day} for day in days))
    lakehouse.replace_days("gold/inventory_daily", [str(day) for day in days], rows)
    assert last_days(lakehouse, ["gold/inventory_daily", "gold/none"]) == ["2026-10-14", "2026-11-10"]
