"""How messages are exchanged: whom and what they point to, when they are sent, how fast they answer."""

import polars as pl

from signals.features.linguistics import LINK, QUESTION

# Scripts other than Latin may write no blank before a name; after a Latin letter the @ is that of a mail address.
_UNSPACED = r"([^\p{Latin}\p{N}_@])@"
_MENTION = r"\B@[\p{L}\p{N}_]"
# \B keeps out the # of a word (C#).
# Numbers alone are ranks or issues (#1), not tags.
_HASHTAG = r"\B#[\p{N}_]*\p{L}"


def communication_features(messages: pl.DataFrame, parents: pl.DataFrame) -> pl.DataFrame:
    """Describe each message as an act of communication.

    Args:
        messages: Shape (n, ...), with `tenant_id`, `message_id`, `author_id`, `text` (null counts as empty), `sent_at`
            (Datetime[us, UTC]) and `reply_to` (the parent's `message_id`, or null).
        parents: Messages that may be replied to, with `tenant_id`, `message_id`, `author_id` and `sent_at`. Of several
            rows with one id the earliest counts: later ones are edits or repeated deliveries.

    Returns:
        Shape (n, 10), one row per message in the order given: `message_id`; `mentions`, `hashtags`, `links`
        (Int32); `is_reply` and `is_question` (Boolean; a question mark outside links); `hour_of_day` (Int32,
        0-23, UTC) and `is_weekend` (Boolean, UTC), null where `sent_at` is; `response_delay_s` (Float64,
        seconds since the parent was sent, null if there is no parent, it is unknown, or it is later under
        clock skew); `replies_to_self` (Boolean, false if the parent is unknown).

    Raises:
        polars.exceptions.ColumnNotFoundError: if a column is missing.
    """
    parent = (
        parents.sort("sent_at", "author_id", nulls_last=True)
        .unique(["tenant_id", "message_id"], keep="first")
        .select("tenant_id", reply_to="message_id", parent_author="author_id", parent_sent_at="sent_at")
    )
    text, sent_at = pl.col("text"), pl.col("sent_at")
    delay = (sent_at - pl.col("parent_sent_at")).dt.total_microseconds() / 1e6
    return (
        messages.select(
            "tenant_id",
            "message_id",
            "author_id",
            "sent_at",
            text.cast(pl.String).fill_null(""),
            # In a frame without any reply this may be a column of type Null.
            pl.col("reply_to").cast(parent.schema["reply_to"]),
        )
        .with_columns(text.str.replace_all(LINK, " "), links=text.str.count_matches(LINK))
        .join(parent, on=["tenant_id", "reply_to"], how="left", maintain_order="left")
        .select(
            "message_id",
            mentions=text.str.replace_all(_UNSPACED, "$1 @").str.count_matches(_MENTION).cast(pl.Int32),
            hashtags=text.str.count_matches(_HASHTAG).cast(pl.Int32),
            links=pl.col("links").cast(pl.Int32),
            is_reply=pl.col("reply_to").is_not_null(),
            is_question=text.str.contains(QUESTION),
            hour_of_day=sent_at.dt.hour().cast(pl.Int32),
            is_weekend=sent_at.dt.weekday().is_between(6, 7),
            response_delay_s=pl.when(delay >= 0).then(delay),
            replies_to_self=(pl.col("author_id") == pl.col("parent_author")).fill_null(value=False),
        )
    )
