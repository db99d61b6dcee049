"""Blocks of report pages on the mood of the audience, as sums over all authors."""

import polars as pl

from platform_assets.reports.aggregates import largest, ratio, total
from platform_assets.reports.page import Chart
from platform_assets.reports.plots import BY_DAY, bars, by_day, lines
from platform_assets.reports.text import percent, plural
from resources.lakehouse.days import DAY

# Days with fewer authors are left out: their mood would be that of identifiable persons.
MIN_AUTHORS = 5


def anonymous_days(authors: pl.DataFrame) -> pl.DataFrame:
    """Return authors' rows of days with enough authors that none can be identified."""
    days = authors.group_by(DAY).agg(pl.col("author_id").n_unique()).filter(pl.col("author_id") >= MIN_AUTHORS)
    return authors.filter(pl.col(DAY).is_in(days[DAY].implode()))


def sentiments(authors: pl.DataFrame) -> Chart:
    """Return the chart of positive and negative messages, by day."""
    title, anonymous = "Positive and negative messages, by day", anonymous_days(authors)
    if anonymous.is_empty():
        return Chart(title)
    colours = {"positive": "var(--good)", "negative": "var(--high)"}
    shares = {name: message_share(f"{name}_share") for name in colours}
    traces = [lines(name, colours[name], by_day(anonymous, share), "percent") for name, share in shares.items()]
    positive, negative = anonymous.select(**shares).row(0)
    daily = largest(
        anonymous.group_by(DAY).agg(balance=shares["positive"] - shares["negative"]).drop_nulls(), "balance", DAY
    )
    reading = f"Of {plural(total(anonymous, 'messages'), 'message')}, {percent(positive or 0)} were positive "
    reading += f"and {percent(negative or 0)} negative"
    best, worst = daily.head(1).rows(), daily.tail(1).rows()
    differ = best and best[0][1] > worst[0][1]
    reading += f"; {best[0][0]:%-d %B} was the brightest day, {worst[0][0]:%-d %B} the darkest." if differ else "."
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%", "rangemode": "tozero"}})


def message_share(share: str) -> pl.Expr:
    """Return the share over all messages from the shares of authors."""
    messages = pl.col("messages").filter(pl.col(share).is_not_null())
    return ratio((pl.col(share) * pl.col("messages")).sum(), messages.sum())


def emotions(authors: pl.DataFrame) -> Chart:
    """Return the chart of messages by emotion and day."""
    title, anonymous = "Messages by emotion, by day", anonymous_days(authors)
    colours = {
        "joy": "var(--medium)",
        "optimism": "var(--good)",
        "sadness": "var(--accent)",
        "anger": "var(--floor)",
    }
    totals = {name: total(anonymous, f"{name}_messages") for name in colours}
    if not sum(totals.values()):
        return Chart(title)
    traces = [
        bars(name, colour, by_day(anonymous, pl.col(f"{name}_messages").sum())) for name, colour in colours.items()
    ]
    most = max(totals, key=lambda name: (totals[name], name))
    reading = (
        f"{most.capitalize()} is the commonest emotion, in {percent(totals[most] / sum(totals.values()))} of messages."
    )
    return Chart(title, reading, traces, {"xaxis": BY_DAY})
