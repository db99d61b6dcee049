import html
import random

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from platform_assets.bronze.social_messages import SCHEMA
from platform_assets.bronze.user_profiles import SCHEMA as PROFILES
from platform_assets.silver.message_features import features
from platform_assets.silver.messages import cleaned
from signals.documents.text import plain_texts
from signals.features.keywords import keywords

HIDDEN = "\u200b\u00ad\u2060\ufeff\u202e\u034f\u180e\u115f\ufe0e\U000e0061\x00"
WORDS = ["Tom", "&", "Jerry", "<3", '"no"', "don't", "ЗЛО!", "祭り", "#夏", "@ann", "@דנה", "😀", "❤️", "घृणा", "?", "me"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


def told(bronze, *texts):
    """Return messages, and what is counted in them, one row a text."""
    sent = [{"message_id": f"m{i}", "author_id": "ann", "text": text} for i, text in enumerate(texts)]
    messages = cleaned(bronze(SCHEMA, *sent), bronze(PROFILES))
    return messages, features(messages, messages.clear()).drop("message_id", "position")


def ways(text, coin):
    """Return ways in which platforms deliver one text, and in which people hide what it says."""
    numbered = "".join(f"&#{ord(sign)};" for sign in text)
    return [
        text,
        html.escape(text),
        html.escape(html.escape(text)),
        numbered,
        html.escape(numbered),
        text.translate({ord("#"): "＃", ord("@"): "＠"}),
        text.translate({ord("#"): "﹟", ord("@"): "﹫"}),
        "".join(f"{sign}{coin.choice(HIDDEN)}" if sign.isalpha() else sign for sign in text),
    ]


@settings(max_examples=60)
@given(text=TEXTS, seed=st.integers(0, 1_000))
def test_what_is_counted_does_not_depend_on_how_a_text_is_delivered(bronze, text, seed):
    messages, rows = told(bronze, *ways(text, random.Random(seed)))
    assert_frame_equal(pl.concat([rows[0]] * rows.height), rows)
    assert messages["content_hash"].n_unique() == 1
    assert keywords(pl.Series(plain_texts(messages["text_as_sent"]))).n_unique() == 1


def test_counted_is_what_a_reader_sees(bronze):
    _, rows = told(
        bronze,
        "Tom &amp; Jerry &lt;3 @ann https://example.org/a#b",
        "I don&#39;t &#128512; &#x1F389;",
        "＃祭り が始まる ＃夏",
        "call ☎︎ or tick ✔︎ and love ❤︎",
        "call ☎️ or tick ✔️ and love ❤️",
    )
    assert rows["words"].to_list() == [4, 2, 3, 5, 5]
    assert rows["hashtags"].to_list() == [0, 0, 2, 0, 0]
    assert rows["mentions"].to_list() == [1, 0, 0, 0, 0]
    assert rows["links"].to_list() == [1, 0, 0, 0, 0]
    assert rows["emoji_count"].to_list() == [0, 2, 0, 0, 3]


def test_a_message_without_text_has_nothing_to_count(bronze):
    messages = cleaned(bronze(SCHEMA, {"message_id": "m1"}), bronze(PROFILES))
    assert features(messages, messages.clear())["words"].to_list() == [0]
