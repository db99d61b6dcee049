import polars as pl
import pytest
from emoji import EMOJI_DATA, STATUS
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from signals.features.linguistics import linguistic_features

TEXTS = st.lists(st.none() | st.text() | st.text("aeI'\u2019t-.!?… \n1\ufe0fשλ漢。\0"), max_size=5)
SHARES = [
    "pronouns_first_singular",
    "pronouns_first_plural",
    "pronouns_second",
    "pronouns_third",
    "negations",
    "uppercase_share",
]


def features(*texts: str | None) -> pl.DataFrame:
    return linguistic_features(pl.Series(texts, dtype=pl.String))


def feature(text: str, name: str) -> float | None:
    return features(text)[name].item()


def test_counts():
    row = features("Wait, WHAT?! I paid 3.50 for the well-known café.").row(0, named=True)
    assert (row["words"], row["sentences"], row["characters"]) == (10, 2, 49)
    assert (row["exclamations"], row["questions"]) == (1, 1)
    assert row["mean_word_length"] == pytest.approx(36 / 10)
    assert row["uppercase_share"] == pytest.approx(6 / 32)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("no stop", 1),
        ("One. Two! Three?", 3),
        ("What?! Really...", 2),
        ("Great! 😀", 1),
        ('He said "no." Then left.', 2),
        ("pi is 3.14 exactly", 1),
        ("title\nbody", 2),
        ("你好。再见。", 2),
        ("?!", 0),
    ],
)
def test_sentences(text, sentences):
    assert feature(text, "sentences") == sentences


def test_reading_ease_is_fleschs():
    assert feature("The cat sat on the mat.", "reading_ease") == pytest.approx(206.835 - 1.015 * 6 - 84.6 * 6 / 6)
    two_sentences = "Interminable terminal. Go."  # 5 + 3 + 1 syllables
    assert feature(two_sentences, "reading_ease") == pytest.approx(206.835 - 1.015 * 3 / 2 - 84.6 * 9 / 3)


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        ("make", 1),
        ("jumped", 1),
        ("wanted", 2),
        ("table", 2),
        ("whale", 1),
        ("times", 1),
        ("boxes", 2),
        ("hmm", 1),
    ],
)
def test_syllables(word, syllables):
    assert feature(word, "reading_ease") == pytest.approx(206.835 - 1.015 - 84.6 * syllables)


def test_joiners_are_part_of_a_word():
    assert feature("می\u200cخواهم بروم", "words") == 2
    assert feature("অবন্\u200dতী", "words") == 1


def test_lexical_diversity_ignores_case():
    assert feature("The the THE cat", "lexical_diversity") == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pronouns_first_singular", "I'm sure my dog"),
        ("pronouns_first_plural", "We\u2019re in our house"),
        ("pronouns_second", "you'll hurt yourself badly"),
        ("pronouns_third", "she's seen them leave"),
        ("negations", "never don't stop thinking"),
    ],
)
def test_word_classes(name, text):
    row = features(text).row(0, named=True)
    assert row[name] == pytest.approx(2 / 4)
    assert sum(row[share] for share in SHARES[:5]) == pytest.approx(2 / 4)


def test_links_are_not_prose_but_the_question_after_them_is():
    row = features("seen https://x.org/a?b=c!d.html?").row(0, named=True)
    assert (row["words"], row["questions"], row["exclamations"]) == (1, 1, 0)


def test_emoji_are_not_words():
    emoji = [e for e, data in EMOJI_DATA.items() if data["status"] == STATUS["fully_qualified"]]
    assert linguistic_features(pl.Series(emoji))["words"].sum() == 0


def test_texts_without_words():
    for row in features(None, "", "❤️", "?! \0\x07").iter_rows(named=True):
        assert row["reading_ease"] is None
        assert row["lexical_diversity"] is None
        assert row["words"] == row["sentences"] == row["mean_word_length"] == 0
        assert all(row[share] == 0 for share in SHARES)


@given(TEXTS, TEXTS)
def test_rows_are_independent_and_bounded(some, others):
    both = features(*some, *others)
    assert_frame_equal(both, pl.concat([features(*some), features(*others)]))
    shares = both.select(*SHARES, "lexical_diversity").unpivot()["value"]
    assert shares.drop_nulls().is_between(0, 1).all()
    assert ((both["words"] > 0) == (both["sentences"] > 0)).all()
    assert both["reading_ease"].drop_nulls().is_finite().all()
    assert (both["reading_ease"].is_null() == (both["words"] == 0)).all()
    assert both["characters"].to_list() == [len(text or "") for text in [*some, *others]]


def test_schema_does_not_depend_on_rows():
    assert features().is_empty()
    assert features().schema == features("a").schema == linguistic_features(pl.Series([None])).schema
    assert set(features().schema.dtypes()) == {pl.Int32, pl.Float64}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", ["word ", "a", "a.", "'", "a-", "! ", "n't", "\n"])
def test_a_megabyte_takes_linear_time(unit):
    assert feature(unit * (1_000_000 // len(unit)), "characters") >= 999_999
