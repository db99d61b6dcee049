from datetime import date

import pytest

from signals.documents.currency import Rates, RatesError, rates

RATES = rates("# day\tcurrency\tusd\n2026-11-02\tEUR\t1.5\n2026-11-01\teur\t1.25 # as of\n\n2026-11-01\tJPY\t0.01\n")


@pytest.mark.parametrize(
    ("day", "expected"), [("2026-10-31", None), ("2026-11-01", 1.0), ("2026-11-02", 1.2), ("2027-01-01", 1.2)]
)
def test_an_amount_is_converted_at_the_newest_rate_of_its_day_or_before(day, expected):
    assert RATES.in_usd(0.8, "EUR", date.fromisoformat(day)) == expected


def test_nothing_but_dollars_is_known_without_rates():
    day = date(2026, 11, 1)
    assert Rates().in_usd(0.8, "USD", day) == 0.8
    assert Rates().in_usd(0.8, "EUR", day) is None
    assert Rates().in_usd(0.0, "EUR", day) == 0.0
    assert Rates().in_usd(None, "USD", day) is None
    assert RATES.in_usd(0.8, "GBP", day) is None


@pytest.mark.parametrize(
    "line",
    ["2026-11-01\tEUR", "yesterday\tEUR\t1", "2026-11-01\tEUR\tmuch", "2026-11-01\tEUR\t0", "2026-11-01 EUR nan"],
)
def test_a_line_that_is_no_rate_is_named(line):
    with pytest.raises(RatesError, match="line 2: "):
        rates(f"2026-11-01\tJPY\t0.01\n{line}\n")
