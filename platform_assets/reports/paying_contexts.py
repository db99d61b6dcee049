"""Blocks of the business page on which topics, sentiments and risks of pages pay."""

from typing import Any

import polars as pl

from platform_assets.reports.aggregates import concentration, largest
from platform_assets.reports.context import MONEY_COLUMNS, RATE_COLUMNS, rate, with_rates
from platform_assets.reports.page import Chart, Column, Grid
from platform_assets.reports.plots import horizontal_layout, label
from platform_assets.reports.risk_measures import RANK
from platform_assets.reports.text import join_words, percent, plural
from signals.risks import RISKY, SAFE

MAX_TOPICS = 20
# Topics with a smaller share of all impressions are left out.
MIN_IMPRESSION_SHARE = 0.01
# Quantile of the normal distribution for intervals of 90 %.
Z_90 = 1.645


def topic_click_rates(rows: pl.DataFrame) -> Chart:
    """Return the chart of the click-through rate of each topic, with its interval."""
    title, average = "Click-through rate by topic of the page", rows.select(rate("ctr")).item()
    topics = with_rates(rows, "topic").filter(
        pl.col("impressions") > MIN_IMPRESSION_SHARE * pl.col("impressions").sum()
    )
    if topics.is_empty() or not average:
        return Chart(title)
    low, high = interval(pl.col("clicks"), pl.col("impressions"))
    topics = largest(topics, "impressions", "topic").head(MAX_TOPICS).with_columns(low=low, high=high)
    topics = largest(topics, "ctr", "topic")
    above, below = topics.filter(pl.col("low") > average), topics.filter(pl.col("high") < average)
    chance = topics.filter(pl.col("low") <= average, pl.col("high") >= average)
    traces = [
        interval_markers("clearly above the average", "var(--good)", above),
        interval_markers("may be chance", "var(--muted)", chance),
        interval_markers("clearly below", "var(--high)", below),
    ]
    mean = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": average, "x1": average}
    line = {"line": {"color": "var(--ink)", "dash": "dot", "width": 1}}
    layout = horizontal_layout("percent", topics["topic"]) | {"shapes": [mean | line]}
    reading = f"The average is {percent(average)} (dotted)."
    for side, names in (("above", above["topic"]), ("below", below["topic"])):
        reading += f" Clearly {side} it: {join_words(names)}." if len(names) else ""
    reading += f" For {plural(chance.height, 'topic')} the difference may be chance." if chance.height else ""
    return Chart(title, reading, traces, layout, height=90 + 24 * topics.height, wide=True)


def interval_markers(name: str, colour: str, topics: pl.DataFrame) -> dict[str, Any]:
    """Return a trace of topics' click-through rates with their intervals."""
    upper, lower = ((topics["high"] - topics["ctr"]).clip(0), (topics["ctr"] - topics["low"]).clip(0))
    spread = {"type": "data", "array": upper.to_list(), "arrayminus": lower.to_list(), "color": colour, "width": 0}
    drawing = {"mode": "markers", "marker": {"color": colour, "size": 9}, "error_x": spread}
    xy = {"x": topics["ctr"].to_list(), "y": [label(topic) for topic in topics["topic"]]}
    return {"type": "scatter", "name": name, "hovertemplate": "%{y}: %{x:.1%}<extra></extra>", **drawing, **xy}


def interval(part: pl.Expr, whole: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the ends of the Wilson score interval of part / whole."""
    share, z = (part / whole).clip(0, 1), Z_90
    middle = share + z**2 / (2 * whole)
    spread = z * (share * (1 - share) / whole + z**2 / (4 * whole**2)).sqrt()
    return (middle - spread) / (1 + z**2 / whole), (middle + spread) / (1 + z**2 / whole)


def by_sentiment(rows: pl.DataFrame) -> Grid:
    """Return the table of ad performance by sentiment of the page."""
    sentiment_rows = largest(with_rates(rows, "sentiment").filter(pl.col("impressions") > 0), "ctr", "sentiment")
    if sentiment_rows.is_empty():
        return Grid("By sentiment of the page", wide=False)
    best, worst = sentiment_rows.row(0, named=True), sentiment_rows.row(-1, named=True)
    reading = f"Beside {best['sentiment']} pages {percent(best['ctr'])} of impressions were clicked"
    reading += f", beside {worst['sentiment']} ones {percent(worst['ctr'])}." if sentiment_rows.height > 1 else "."
    return Grid(
        "By sentiment of the page",
        reading,
        [Column("sentiment", "Sentiment", "name"), *RATE_COLUMNS[:4]],
        sentiment_rows.to_dicts(),
        wide=False,
    )


def by_risk(rows: pl.DataFrame) -> Grid:
    """Return the table of ad performance by risk of the page."""
    risk_rows = with_rates(rows, "risk").filter(pl.col("impressions") > 0).sort(RANK, descending=True)
    if risk_rows.is_empty():
        return Grid("By risk of the page", wide=False)
    risky, safe = (
        rows.filter(pl.col("risk").is_in(levels)).select(rate("viewability")).item() for levels in (RISKY, SAFE)
    )
    reading = "There is nothing to compare: not both risky and safe pages had impressions."
    if risky is not None and safe is not None:
        reading = f"{percent(risky)} of impressions beside risky pages were in view, {percent(safe)} beside safe ones."
    return Grid(
        "By risk of the page",
        reading,
        [Column("risk", "Risk", "chip"), *RATE_COLUMNS[:4]],
        risk_rows.to_dicts(),
        wide=False,
    )


def topic_revenue(rows: pl.DataFrame) -> Grid:
    """Return the table of cost and revenue by topic."""
    topics = largest(with_rates(rows, "topic").filter(pl.col("impressions") > 0), "revenue_usd", "topic")
    if topics.is_empty():
        return Grid("What each topic brought")
    names, share = concentration(topics, "topic", "revenue_usd")
    reading = "No topic brought revenue."
    if names:
        reading = f"{percent(share)} of revenue came from {len(names)} of {plural(topics.height, 'topic')}."
    top = topics.head(MAX_TOPICS)
    reading += f" The {MAX_TOPICS} with the most revenue are shown." if topics.height > MAX_TOPICS else ""
    return Grid(
        "What each topic brought", reading, [Column("topic", "Topic"), *RATE_COLUMNS, *MONEY_COLUMNS], top.to_dicts()
    )
