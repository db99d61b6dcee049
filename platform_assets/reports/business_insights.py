"""One row is one campaign on one day on pages of one topic, sentiment and risk, with its ad performance.

Money is in US dollars; ``roas`` is revenue per dollar of cost. Its page is ``reports/business_insights.html``, on the
last 28 days; it also shows the exchange, and the mood of the audience as sums over all authors.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.reports import audience, exchange
from platform_assets.reports.context import EVENTS, MEASURES, SIGNALS, ad_performance
from platform_assets.reports.page import (
    KINDS,
    RISKS,
    Chart,
    Column,
    Grid,
    Page,
    Section,
    concentration,
    dollars,
    headline,
    heatmap,
    heatmap_layout,
    horizontal_layout,
    join_words,
    label,
    largest,
    last_days,
    percent,
    plural,
    publish,
    ratio,
    read,
    total,
    versions,
)
from resources.lakehouse.days import DAY
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse
from signals.risks import RISKY, SAFE

TABLE = "reports/business_insights"
HOURLY, INVENTORY, MOOD = "gold/ad_performance_hourly", "gold/inventory_daily", "gold/psychosocial_daily"
RTB, SYNC, AUCTIONS = "gold/rtb_hourly", "gold/user_sync_hourly", "silver/rtb_auctions"
INPUTS = (EVENTS, SIGNALS, HOURLY, INVENTORY, MOOD, RTB, SYNC, AUCTIONS)
KEY = [DAY, "tenant_id", "campaign_id", "topic", "sentiment", "risk"]
# Rates: numerator, denominator and scale.
RATES = {
    "viewability": ("viewable", "impressions", 1),
    "ctr": ("clicks", "impressions", 1),
    "conversion_rate": ("conversions", "clicks", 1),
    "cpm_usd": ("cost_usd", "impressions", 1000),
    "roas": ("revenue_usd", "cost_usd", 1),
}
MAX_TOPICS, MAX_CAMPAIGNS = 20, 25
# Topics with a smaller share of all impressions are left out.
MIN_IMPRESSION_SHARE = 0.01
# Quantile of the normal distribution for intervals of 90 %.
Z_90 = 1.645
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
RATE_COLUMNS = (
    Column("impressions", "Impressions", "count"),
    Column("viewability", "Viewability", "percent"),
    Column("ctr", "CTR", "percent"),
    Column("conversion_rate", "Conversion rate", "percent"),
    Column("cpm_usd", "CPM", "dollars"),
)
MONEY_COLUMNS = (
    Column("cost_usd", "Spend", "dollars"),
    Column("conversions", "Conversions", "count"),
    Column("revenue_usd", "Revenue", "dollars"),
    Column("roas", "ROAS", "decimal"),
)
TERMS = {
    "Viewability": "Impressions that were in view, of all impressions.",
    "CTR": "Click-through rate: clicks for each impression.",
    "Conversion rate": "Conversions for each click.",
    "CPM": "Cost of a thousand impressions, in US dollars.",
    "ROAS": "Return on advertising spend: revenue for each dollar of cost.",
    "Interval": "The line through a point: nine in ten such lines hold the true rate. Where it crosses the average, "
    "the difference may be chance.",
    "Bid request": "One auction put to one bidder, who bids, declines, answers too late or fails.",
    "Fill": "Available slots that were filled.",
    "Authorised": "The site’s ads.txt lists the seller, and the exchange’s sellers.json, where it is known, agrees. "
    "Not known: no seller is named, or the site has no ads.txt.",
    "Match": "A user’s id that a partner could match with its own.",
    "Risky": "Pages of high or floor risk, which are not brand-safe.",
    "Mood": "What the models say of messages whose authors consent. Only sums over all authors are shown, and none "
    f"for a day with fewer than {audience.MIN_AUTHORS} authors.",
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, kinds=KINDS))
def business_insights(
    context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]
) -> dg.MaterializeResult:
    """Sum the ad performance of campaigns by context."""
    write = start(context, lakehouse, TABLE, INPUTS)
    rows = insights(ad_performance(lakehouse, write.days))
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    return write.result({"page": publish(lakehouse, TABLE, page(snapshot(lakehouse)))}, rows_out=rows.height)


def insights(ads: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of this table. For ``ads`` see ``context.ad_performance``."""
    return with_rates(ads, *KEY).sort(KEY)


def with_rates(rows: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return measures summed by some columns, with their rates; null where the denominator is zero."""
    summed = rows.group_by(by).agg(pl.col(MEASURES).sum().round(6))
    rates = {name: ratio(scale * pl.col(part), pl.col(whole)) for name, (part, whole, scale) in RATES.items()}
    return summed.with_columns(**{name: rate.round(6) for name, rate in rates.items()})


def rate(name: str) -> pl.Expr:
    """Return a rate as an aggregate."""
    part, whole, scale = RATES[name]
    return ratio(scale * pl.col(part).sum(), pl.col(whole).sum())


def page(lakehouse: Lakehouse) -> Page:
    """Return the page on the last days of the tables."""
    days = last_days(lakehouse, [TABLE, INVENTORY, MOOD, RTB, SYNC])
    tables = [read(lakehouse, table, days) for table in (TABLE, HOURLY, RTB, INVENTORY, SYNC, MOOD)]
    auctions = lakehouse.scan(AUCTIONS, days or None).select("winner", "bids")
    return build_page(*tables, exchange.bidders(auctions), versions(lakehouse, [TABLE, *INPUTS]))


def build_page(
    rows: pl.DataFrame,
    hourly: pl.DataFrame,
    rtb: pl.DataFrame,
    inventory: pl.DataFrame,
    syncs: pl.DataFrame,
    authors: pl.DataFrame,
    by_bidder: pl.DataFrame,
    made_from: Mapping[str, int],
) -> Page:
    """Return the page.

    Args:
        rows: rows of this table.
        hourly: gold/ad_performance_hourly.
        rtb: gold/rtb_hourly.
        inventory: gold/inventory_daily.
        syncs: gold/user_sync_hourly.
        authors: gold/psychosocial_daily.
        by_bidder: see ``exchange.bidders``.
        made_from: versions of the tables read.
    """
    days = pl.concat([table.select(DAY) for table in (rows, rtb, inventory, syncs, authors)])[DAY].unique().sort()
    return Page(
        title="Business insights",
        purpose="What advertising brought, in which context, and how the exchange worked.",
        finding=finding(rows),
        headlines=[
            headline("Impressions", rows, pl.col("impressions").sum(), "count", rising="good"),
            headline("Viewability", rows, rate("viewability"), "percent", rising="good"),
            headline("Click-through rate", rows, rate("ctr"), "percent", rising="good"),
            headline("Conversions", rows, pl.col("conversions").sum(), "count", rising="good"),
            headline("Spend", rows, pl.col("cost_usd").sum(), "dollars"),
            headline("Revenue per dollar", rows, rate("roas"), "dollars", rising="good"),
        ],
        sections=[
            Section(
                "Which contexts pay", [topic_click_rates(rows), by_sentiment(rows), by_risk(rows), topic_revenue(rows)]
            ),
            Section("Campaigns", [campaigns(rows)]),
            Section("When", [impressions_by_hour(hourly)]),
            Section(
                "The exchange",
                [
                    exchange.funnel(rtb),
                    exchange.losses(rtb),
                    exchange.bidding(by_bidder),
                    exchange.fill(inventory),
                    exchange.authorisation(inventory),
                    exchange.matches(syncs),
                ],
            ),
            Section("The mood of the audience", [audience.sentiments(authors), audience.emotions(authors)]),
        ],
        terms=TERMS,
        days=days.to_list(),
        versions=made_from,
    )


def finding(rows: pl.DataFrame) -> str:
    """Return the page's finding."""
    impressions, cost, revenue, click_share, view_share = rows.select(
        pl.col("impressions", "cost_usd", "revenue_usd").sum(),
        ctr=rate("ctr"),
        viewability=rate("viewability"),
    ).row(0)
    if not impressions:
        return "No advertisement was shown in these days."
    names, share = concentration(rows, "campaign_id", "revenue_usd")
    by_whom = f"; {percent(share)} of it from {join_words(names)}" if 1 <= len(names) <= 3 else ""
    return (
        f"{plural(impressions, 'impression')} cost {dollars(cost)} and brought {dollars(revenue)}{by_whom}. "
        f"{percent(view_share)} were in view and {percent(click_share)} were clicked."
    )


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
    rank = pl.col("risk").replace_strict({risk: i for i, risk in enumerate(RISKS)}, default=9, return_dtype=pl.Int64)
    risk_rows = with_rates(rows, "risk").filter(pl.col("impressions") > 0).sort(rank, descending=True)
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


def campaigns(rows: pl.DataFrame) -> Grid:
    """Return the table of cost and revenue by campaign."""
    tenants = rows.group_by("campaign_id").agg(pl.col("tenant_id").unique().sort().str.join(", "))
    campaign_rows = with_rates(rows, "campaign_id").join(tenants, on="campaign_id").filter(pl.col("impressions") > 0)
    campaign_rows = largest(campaign_rows, "cost_usd", "campaign_id")
    if campaign_rows.is_empty():
        return Grid("Campaigns by spend")
    most, paid = campaign_rows.row(0, named=True), largest(campaign_rows, "roas", "campaign_id").row(0, named=True)
    all_spend = dollars(total(campaign_rows, "cost_usd"))
    reading = f"{most['campaign_id']} spent the most, {dollars(most['cost_usd'])} of {all_spend}."
    reading += f" {paid['campaign_id']} brought the most for a dollar: {dollars(paid['roas'])}." if paid["roas"] else ""
    columns = [Column("campaign_id", "Campaign", "name"), Column("tenant_id", "Tenants"), *RATE_COLUMNS, *MONEY_COLUMNS]
    return Grid("Campaigns by spend", reading, columns, campaign_rows.head(MAX_CAMPAIGNS).to_dicts())


def impressions_by_hour(hourly: pl.DataFrame) -> Chart:
    """Return the heat map of mean impressions by weekday and hour."""
    title = "Impressions by weekday and hour (UTC)"
    if not total(hourly, "impressions"):
        return Chart(title)
    weekday, hour = pl.col(DAY).dt.weekday(), pl.col("hour").dt.hour()
    days = hourly.group_by(weekday=weekday).agg(days=pl.col(DAY).n_unique())
    impressions = hourly.group_by(weekday=weekday, hour=hour).agg(pl.col("impressions").sum()).join(days, on="weekday")
    cells = {(day, clock_hour): number / day_count for day, clock_hour, number, day_count in impressions.rows()}
    weekday_numbers, clock = sorted(days["weekday"]), range(24)
    weekdays, hours = [WEEKDAYS[day - 1] for day in weekday_numbers], [f"{clock_hour:02}" for clock_hour in clock]
    trace = heatmap(
        hours, weekdays, [[cells.get((day, clock_hour)) for clock_hour in clock] for day in weekday_numbers]
    )
    (day, clock_hour), most = max(cells.items(), key=lambda cell: (cell[1], cell[0]))
    by_hour = hourly.group_by(hour=hour).agg(pl.col("impressions").sum())
    quiet = by_hour.sort("impressions", "hour")["hour"][0]
    reading = (
        f"{WEEKDAYS[day - 1]} from {clock_hour:02}:00 is the busiest hour, with {plural(most, 'impression')}; "
        f"over all days the quietest begins at {quiet:02}:00."
    )
    return Chart(
        title, reading, [trace], heatmap_layout(hours, weekdays), height=70 + 32 * len(weekday_numbers), wide=True
    )
