from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from signals.features.communication import communication_features

TIME = pl.Datetime("us", "UTC")
SCHEMA = {
    "tenant_id": pl.String,
    "message_id": pl.String,
    "author_id": pl.String,
    "text": pl.String,
    "sent_at": TIME,
    "reply_to": pl.String,
}
MONDAY = datetime(2024, 1, 1, 12, tzinfo=UTC)
IDS = st.sampled_from(["a", "b", "c", "d"])
ROWS = st.lists(
    st.tuples(
        IDS,
        st.none() | IDS,
        st.none() | st.text() | st.text("@#a1 ?ש\0"),
        st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        st.none() | IDS,
    ),
    max_size=6,
)


def messages(*rows: tuple, tenant: str = "acme") -> pl.DataFrame:
    return pl.DataFrame([(tenant, *row) for row in rows], SCHEMA, orient="row")


def of_text(text: str | None) -> dict:
    row = messages(("m", "ann", text, MONDAY, None))
    return communication_features(row, row).row(0, named=True)


def reply(author: str, after: timedelta, parents: pl.DataFrame) -> tuple:
    row = messages(("reply", author, "", MONDAY + after, "parent"))
    return communication_features(row, parents).select("response_delay_s", "replies_to_self").row(0)


@pytest.mark.parametrize(
    ("text", "mentions", "hashtags", "links"),
    [
        ("@ann and (@bob): see #plan, #2024goals", 2, 2, 0),
        ("mail bob@example.com about C#, a#b and #1", 0, 0, 0),
        ("https://x.org/@ann#top WWW.example.com/#a http://y.org", 0, 0, 3),
        ("#日本 #été @דנה", 1, 2, 0),
        ("一足先に@bobさん、@annと שלום ל@dana", 3, 0, 0),
        ("猫@犬@鳥 josé@example.org", 2, 0, 0),
        ("@ # @@ ##", 0, 0, 0),
        ("\0@ann\x07#tag", 1, 1, 0),
        (None, 0, 0, 0),
    ],
)
def test_counts_of_what_a_text_points_to(text, mentions, hashtags, links):
    row = of_text(text)
    assert (row["mentions"], row["hashtags"], row["links"]) == (mentions, hashtags, links)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("really?", True),
        ("هل أنت هنا؟", True),
        ("本当\uff1f", True),
        ("have you seen https://x.org?", True),
        ("https://x.org/?q=1", False),
        ("no.", False),
        (None, False),
    ],
)
def test_question_marks_count_outside_links(text, question):
    assert of_text(text)["is_question"] is question


@pytest.mark.parametrize(("days", "weekend"), [(0, False), (4, False), (5, True), (6, True), (7, False)])
def test_clock_and_calendar_are_utc(days, weekend):
    row = messages(("m", "ann", "", MONDAY + timedelta(days=days), None))
    features = communication_features(row, row)
    assert features.select("hour_of_day", "is_weekend").row(0) == (12, weekend)


def test_a_reply_is_timed_from_its_parent():
    parent = messages(("parent", "ann", "", MONDAY, None))
    assert reply("bob", timedelta(seconds=90.5), parent) == (90.5, False)
    assert reply("ann", timedelta(0), parent) == (0.0, True)


def test_a_reply_before_its_parent_has_no_delay():
    assert reply("ann", timedelta(seconds=-1), messages(("parent", "ann", "", MONDAY, None))) == (None, True)


def test_a_reply_to_an_unknown_parent_is_still_a_reply():
    row = messages(("m", "ann", "", MONDAY, "gone"))
    features = communication_features(row, row).row(0, named=True)
    assert features["is_reply"] is True
    assert features["response_delay_s"] is None
    assert features["replies_to_self"] is False


def test_the_earliest_of_duplicate_parents_counts_in_any_order():
    parents = messages(
        ("parent", "ann", "", MONDAY + timedelta(seconds=5), None),
        ("parent", "ann", "", None, None),
        ("parent", "ann", "", MONDAY, None),
    )
    assert reply("bob", timedelta(seconds=10), parents) == (10.0, False)
    assert reply("bob", timedelta(seconds=10), parents.reverse()) == (10.0, False)


def test_untyped_nulls_do_no_harm():
    row = messages(("m", "ann", None, MONDAY, None))
    untyped = row.with_columns(text=None, reply_to=None)
    assert_frame_equal(communication_features(untyped, row), communication_features(row, row))


def test_a_message_answers_none_of_another_organisation():
    parent = ("parent", "ann", "", MONDAY, None)
    assert reply("ann", timedelta(minutes=1), messages(parent)) == (60.0, True)
    assert reply("ann", timedelta(minutes=1), messages(parent, tenant="other")) == (None, False)


def test_other_columns_do_no_harm():
    row = messages(("m", "ann", "hi", MONDAY, "m"))
    more = row.with_columns(parent_author=pl.lit("x"), parent_sent_at=None, links=pl.lit(9))
    assert_frame_equal(communication_features(more, row), communication_features(row, row))


def test_no_messages_and_no_parents():
    row = messages(("m", "ann", "hi", MONDAY, "p"))
    empty = communication_features(messages(), row)
    assert empty.is_empty()
    assert (
        empty.schema
        == communication_features(row, messages()).schema
        == {
            "message_id": pl.String,
            "mentions": pl.Int32,
            "hashtags": pl.Int32,
            "links": pl.Int32,
            "is_reply": pl.Boolean,
            "is_question": pl.Boolean,
            "hour_of_day": pl.Int32,
            "is_weekend": pl.Boolean,
            "response_delay_s": pl.Float64,
            "replies_to_self": pl.Boolean,
        }
    )


@given(ROWS, ROWS, ROWS)
def test_rows_keep_their_order_and_are_independent(some, others, parents):
    known = messages(*parents)
    both = communication_features(messages(*some, *others), known)
    assert both["message_id"].to_list() == [row[0] for row in [*some, *others]]
    apart = [communication_features(messages(*rows), known) for rows in (some, others)]
    assert_frame_equal(both, pl.concat(apart))
    assert (both["response_delay_s"].drop_nulls() >= 0).all()
    assert (both["is_reply"] | ~both["replies_to_self"]).all()


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", ["word ", "@", "#1", "https://", "www.?"])
def test_a_megabyte_takes_linear_time(unit):
    assert of_text(unit * (1_000_000 // len(unit)))["hashtags"] == 0
