import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from signals.features.keywords import keywords

WORDS = ["red", "fox", "hill", "the", ".", "@bob", "don't", "it's", "7", "שלום"]
TEXTS = st.lists(
    st.none() | st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join),
    max_size=5,
)


def series(*texts: str | None) -> pl.Series:
    return pl.Series(texts, dtype=pl.String)


def of(text: str | None, top: int = 8) -> list[str]:
    return keywords(series(text), top).to_list()[0]


def test_a_repeated_phrase_comes_first_and_whole():
    text = "The budget review is late. A budget review has slides, and the budget review team is away."
    found = of(text)
    assert found[0] == "budget review"
    assert "budget" not in found
    assert "slides" in found


def test_a_repeated_word_beats_a_long_phrase_said_once():
    assert of("Rain. Rain! Rain? And rain; a very cold winter morning")[0] == "rain"


def test_phrases_end_at_stop_words_punctuation_and_lines():
    assert of("red fox and brown bear, grey wolf\nwhite owl") == [
        "red fox",
        "brown bear",
        "grey wolf",
        "white owl",
    ]


def test_equal_phrases_keep_the_order_of_the_text():
    assert of("zebra, apple, mango") == ["zebra", "apple", "mango"]


def test_links_names_numbers_and_negations_are_ignored():
    assert of("ping @bob or bob@example.com 2024 https://example.org/launch www.example.org don\u2019t isn't") == [
        "ping"
    ]


def test_clitics_are_dropped():
    assert of("Anna's garden, it's what we've") == ["anna garden"]
    assert of("let\u2019s go") == []


def test_repetition_is_no_phrase():
    assert of("ha ha ha HA ha") == ["ha"]


def test_other_scripts():
    assert of("שלום עולם. हिन्दी भाषा!") == ["שלום עולם", "हिन्दी भाषा"]


def test_what_is_too_long_for_a_word_is_not_one():
    assert of("x" * 1_000_000 + " fox") == ["fox"]


def test_top_limits_the_list():
    text = "zebra, apple, mango"
    assert of(text, top=2) == ["zebra", "apple"]
    with pytest.raises(ValueError, match="at least 1"):
        of(text, top=0)


def test_nothing_in_nothing_out():
    assert keywords(series()).dtype == pl.List(pl.String)
    assert keywords(series()).is_empty()
    assert keywords(series(None, "", "😀❤️", "the of and", "\0\x07")).to_list() == [[]] * 5
    assert keywords(pl.Series([None])).to_list() == [[]]


@given(TEXTS, TEXTS)
@example(["red fox"], ["hill"])
def test_rows_are_independent(some, others):
    apart = pl.concat([keywords(series(*some)), keywords(series(*others))])
    assert_series_equal(keywords(series(*some, *others)), apart)


@given(TEXTS)
def test_phrases_are_short_lower_case_and_not_part_of_a_better_one(texts):
    for phrases in keywords(series(*texts), top=4):
        assert len(phrases) <= 4
        for rank, phrase in enumerate(phrases):
            assert 1 <= len(phrase.split(" ")) <= 3
            assert phrase == pl.Series([phrase]).str.to_lowercase().item()
            assert not any(f" {phrase} " in f" {better} " for better in phrases[:rank])
