"""One row is one campaign on one day on pages of one topic, sentiment and risk, with its ad performance.

Money is in US dollars; ``roas`` is revenue per dollar of cost. Its page is ``reports/business_insights.html``, on the
last 28 days; it also shows the exchange, and the mood of the audience as sums over all authors.
"""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.reports import audience, exchange
from platform_assets.reports.aggregates import concentration, largest, total
from platform_assets.reports.context import (
    EVENTS,
    MONEY_COLUMNS,
    RATE_COLUMNS,
    SIGNALS,
    ad_performance,
    rate,
    with_rates,
)
from platform_assets.reports.page import (
    KINDS,
    Chart,
    Column,
    Grid,
    Page,
    Section,
    headline,
    last_days,
    publish,
    read,
    versions,
)
from platform_assets.reports.paying_contexts import by_risk, by_sentiment, topic_click_rates, topic_revenue
from platform_assets.reports.plots import heatmap, heatmap_layout
from platform_assets.reports.text import dollars, join_words, percent, plural
from resources.lakehouse.days import DAY
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse

TABLE = "reports/business_insights"
HOURLY, INVENTORY, MOOD = "gold/ad_performance_hourly", "gold/inventory_daily", "gold/psychosocial_daily"
RTB, SYNC, AUCTIONS = "gold/rtb_hourly", "gold/user_sync_hourly", "silver/rtb_auctions"
INPUTS = (EVENTS, SIGNALS, HOURLY, INVENTORY, MOOD, RTB, SYNC, AUCTIONS)
KEY = [DAY, "tenant_id", "campaign_id", "topic", "sentiment", "risk"]
MAX_CAMPAIGNS = 25
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
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
