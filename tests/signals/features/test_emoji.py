from itertools import chain, repeat
from pathlib import Path

import polars as pl
import pytest
from emoji import EMOJI_DATA, STATUS, is_emoji
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from signals.features import emoji
from signals.features.emoji import emoji_features

QUALIFIED = sorted(e for e, data in EMOJI_DATA.items() if data["status"] == STATUS["fully_qualified"])
TEXTS = st.lists(st.none() | st.text() | st.text("a👩🏽\u200d❤\ufe0f🔥🇩🇪1\u20e3"), max_size=5)


def features(*texts: str | None) -> pl.DataFrame:
    return emoji_features(pl.Series(texts, dtype=pl.String))


def sentiment(text: str) -> float | None:
    return features(text)["emoji_sentiment"].item()


@given(st.lists(st.sampled_from(QUALIFIED), max_size=10), st.text("abc שב\n\0", min_size=1))
def test_finds_every_sequence_whole_and_in_order(emoji, between):
    found = features(between.join(emoji)).row(0, named=True)
    assert found["emoji"] == emoji
    assert found["emoji_count"] == len(emoji)
    assert found["emoji_unique"] == len(set(emoji))


def test_adjacent_sequences_stay_apart():
    text = "👩🏽‍🚀🇩🇪🇫🇷👍🏿1️⃣👨‍👩‍👧‍👦"
    assert features(text)["emoji"].to_list() == [["👩🏽‍🚀", "🇩🇪", "🇫🇷", "👍🏿", "1️⃣", "👨‍👩‍👧‍👦"]]


def test_typography_and_digits_are_not_emoji():
    assert features("Acme™ ® © 2024 #1 *")["emoji"].to_list() == [[]]
    assert features("©️")["emoji"].to_list() == [["©️"]]


@pytest.mark.parametrize("sign", ["☎", "✔", "❤", "⌚", "☺", "1", "™", "👁\ufe0e\u200d🗨"])
def test_a_sign_that_is_asked_for_as_text_is_no_emoji(sign):
    assert features(f"call {sign}\ufe0e now{sign}\ufe0e").row(0) == ([], 0, 0, None)


@pytest.mark.parametrize("sign", ["☎", "✔", "❤", "☺", "™", "ℹ"])
def test_a_sign_that_is_asked_for_as_emoji_is_one(sign):
    assert features(f"call {sign}\ufe0f now 😀")["emoji"].to_list() == [[f"{sign}\ufe0f", "😀"]]


def test_sentiment_is_the_mean_over_known_occurrences():
    love, sad = sentiment("😍"), sentiment("😢")
    assert love > 0 > sad
    assert sentiment("😍 and 😍, but 😢 🇩🇪") == pytest.approx((2 * love + sad) / 3)


def test_unknown_emoji_have_no_sentiment():
    assert sentiment("🇩🇪") is None
    assert sentiment("none at all") is None


@pytest.mark.parametrize(("variant", "base"), [("👍🏿", "👍"), ("🤦🏽‍♀️", "🤦"), ("❤", "❤️"), ("🙏🏻", "🙏")])
def test_variants_have_the_valence_of_the_base(variant, base):
    assert sentiment(variant) == sentiment(base) != 0


def test_a_joined_sequence_can_differ_from_its_first_part():
    assert sentiment("😮‍💨") != sentiment("😮")


def test_lexicon_is_well_formed():
    path = Path(emoji.__file__).with_name("emoji_valence.tsv")
    lexicon = pl.read_csv(path, separator="\t")
    assert len(lexicon) >= 200
    assert all(map(is_emoji, lexicon["emoji"]))
    assert lexicon["valence"].is_between(-1, 1).all()
    # Each entry can be reached, and no two of them are variants of each other.
    assert_frame_equal(
        emoji_features(lexicon["emoji"]).select(pl.col("emoji").list.first(), valence="emoji_sentiment"),
        lexicon,
    )


@settings(deadline=None, max_examples=50)
@given(TEXTS, TEXTS)
def test_rows_are_independent_and_bounded(some, others):
    both = features(*some, *others)
    assert_frame_equal(both, pl.concat([features(*some), features(*others)]))
    assert both["emoji_sentiment"].drop_nulls().is_between(-1, 1).all()
    assert (both["emoji_unique"] <= both["emoji_count"]).all()


def test_nothing_in_nothing_out():
    assert features().schema == {
        "emoji": pl.List(pl.String),
        "emoji_count": pl.Int32,
        "emoji_unique": pl.Int32,
        "emoji_sentiment": pl.Float64,
    }
    assert features().is_empty()
    assert features(None, "").rows() == [([], 0, 0, None)] * 2
    assert emoji_features(pl.Series([None])).rows() == [([], 0, 0, None)]


@pytest.mark.timeout(5)
def test_long_joined_sequences_take_linear_time():
    text = "".join(chain.from_iterable(repeat("👩\u200d", 150_000)))
    assert features(text)["emoji_count"].item() == 150_000
