import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.consumer_record import LEVELS, SAFE, UNKNOWN, with_risk

GIVEN = st.sampled_from([None, "", "unheard of", *LEVELS])


def judged(text, pictures):
    rows = pl.DataFrame(
        {"threat_risk": [text], "image_threat_risk": [pictures]},
        schema={"threat_risk": pl.String, "image_threat_risk": pl.String},
    )
    return with_risk(rows).select("risk", "brand_safe").row(0)


@pytest.mark.parametrize(
    ("text", "pictures", "expected"),
    [
        ("low", None, ("low", True)),
        ("low", "low", ("low", True)),
        ("low", "medium", ("medium", True)),
        ("medium", "low", ("medium", True)),
        ("high", "low", ("high", False)),
        ("low", "floor", ("floor", False)),
        (None, None, ("unknown", False)),
        (None, "low", ("unknown", False)),
        (None, "floor", ("floor", False)),
        ("low", "unknown", ("unknown", False)),
        ("high", "unknown", ("unknown", False)),
        ("floor", "unknown", ("floor", False)),
        ("unheard of", "low", ("unknown", False)),
    ],
)
def test_the_risk_of_a_page_is_the_worst_and_what_is_unknown_is_not_safe(text, pictures, expected):
    assert judged(text, pictures) == expected


@given(GIVEN, GIVEN)
def test_a_page_is_safe_only_where_all_of_it_is_known_to_be(text, pictures):
    risk, safe = judged(text, pictures)
    assert safe == (text in SAFE and pictures in (*SAFE, None))
    assert risk in LEVELS
    assert (risk == UNKNOWN) <= (not safe)
