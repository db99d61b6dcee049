"""One row is what one campaign got on one day on pages of one topic, sentiment and risk.

Money in US dollars; ``roas`` is revenue for each dollar of cost. Its page is ``reports/business_insights.html``, on the
last 28 days; it also shows the exchange and the mood of the audience, and of the audience only sums.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.reports.context import EVENTS, MEASURES, SIGNALS, beside
from platform_assets.reports.page import (
    BY_DAY,
    KINDS,
    RISKS,
    Chart,
    Column,
    Grid,
    Page,
    Section,
    bars,
    by_day,
    concentration,
    counted,
    crossing,
    dollars,
    headline,
    heat,
    label,
    largest,
    last_days,
    lines,
    listed,
    lying,
    percent,
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
# Rates: a measure for each of another.
RATES = {
    "viewability": ("viewable", "impressions", 1),
    "ctr": ("clicks", "impressions", 1),
    "conversion_rate": ("conversions", "clicks", 1),
    "cpm_usd": ("cost_usd", "impressions", 1000),
    "roas": ("revenue_usd", "cost_usd", 1),
}
MOST_TOPICS, MOST_CAMPAIGNS = 20, 25
# A topic with a smaller part of all impressions says too little.
ENOUGH = 0.01
# Nine in ten such intervals hold the true rate.
NINE_IN_TEN = 1.645
# A day on which fewer authors wrote is left out: its mood would be that of a few persons.
LEAST_AUTHORS = 5
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
RATED = (
    Column("impressions", "Impressions", "count"),
    Column("viewability", "Viewability", "percent"),
    Column("ctr", "CTR", "percent"),
    Column("conversion_rate", "Conversion rate", "percent"),
    Column("cpm_usd", "CPM", "dollars"),
)
PAID = (
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
    f"for a day with fewer than {LEAST_AUTHORS} authors.",
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, kinds=KINDS))
def business_insights(
    context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]
) -> dg.MaterializeResult:
    """Add up what campaigns got in which context."""
    write = start(context, lakehouse, TABLE, INPUTS)
    rows = insights(beside(lakehouse, write.days))
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    return write.result({"page": publish(lakehouse, TABLE, page(snapshot(lakehouse)))}, rows_out=rows.height)


def insights(ads: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of this table for what ``context.beside`` returned."""
    return rated(ads, *KEY).sort(KEY)


def rated(rows: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return measures added up by some columns, with their rates; null where there is nothing to divide by."""
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
    return told(*tables, bidders(auctions), versions(lakehouse, [TABLE, *INPUTS]))


def told(
    rows: pl.DataFrame,
    hourly: pl.DataFrame,
    rtb: pl.DataFrame,
    inventory: pl.DataFrame,
    syncs: pl.DataFrame,
    authors: pl.DataFrame,
    by_bidder: pl.DataFrame,
    made_from: Mapping[str, int],
) -> Page:
    """Return what a person reads.

    Args:
        rows: this table's.
        hourly: gold/ad_performance_hourly.
        rtb: gold/rtb_hourly.
        inventory: gold/inventory_daily.
        syncs: gold/user_sync_hourly.
        authors: gold/psychosocial_daily.
        by_bidder: what ``bidders`` returned.
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
            Section("Which contexts pay", [topics_clicked(rows), of_tone(rows), of_risk(rows), topics_paid(rows)]),
            Section("Campaigns", [campaigns(rows)]),
            Section("When", [rhythm(hourly)]),
            Section(
                "The exchange",
                [funnel(rtb), losses(rtb), bidding(by_bidder), fill(inventory), allowed(inventory), matches(syncs)],
            ),
            Section("The mood of the audience", [sentiments(authors), emotions(authors)]),
        ],
        terms=TERMS,
        days=days.to_list(),
        versions=made_from,
    )


def finding(rows: pl.DataFrame) -> str:
    """Return the page in a sentence or two."""
    shown, cost, brought, clicked, seen = rows.select(
        pl.col("impressions", "cost_usd", "revenue_usd").sum(),
        ctr=rate("ctr"),
        viewability=rate("viewability"),
    ).row(0)
    if not shown:
        return "No advertisement was shown in these days."
    names, held = concentration(rows, "campaign_id", "revenue_usd")
    whose = f"; {percent(held)} of it from {listed(names)}" if 1 <= len(names) <= 3 else ""
    return (
        f"{counted(shown, 'impression')} cost {dollars(cost)} and brought {dollars(brought)}{whose}. "
        f"{percent(seen)} were in view and {percent(clicked)} were clicked."
    )


def topics_clicked(rows: pl.DataFrame) -> Chart:
    """Return the click-through rate of each topic, and how far it may be chance."""
    title, average = "Click-through rate by topic of the page", rows.select(rate("ctr")).item()
    found = rated(rows, "topic").filter(pl.col("impressions") > ENOUGH * pl.col("impressions").sum())
    if found.is_empty() or not average:
        return Chart(title)
    low, high = interval(pl.col("clicks"), pl.col("impressions"))
    found = largest(found, "impressions", "topic").head(MOST_TOPICS).with_columns(low=low, high=high)
    found = largest(found, "ctr", "topic")
    above, below = found.filter(pl.col("low") > average), found.filter(pl.col("high") < average)
    chance = found.filter(pl.col("low") <= average, pl.col("high") >= average)
    drawn = [
        dots("clearly above the average", "var(--good)", above),
        dots("may be chance", "var(--muted)", chance),
        dots("clearly below", "var(--high)", below),
    ]
    mean = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": average, "x1": average}
    line = {"line": {"color": "var(--ink)", "dash": "dot", "width": 1}}
    layout = lying("percent", found["topic"]) | {"shapes": [mean | line]}
    reading = f"The average is {percent(average)} (dotted)."
    for where, names in (("above", above["topic"]), ("below", below["topic"])):
        reading += f" Clearly {where} it: {listed(names)}." if len(names) else ""
    reading += f" For {counted(chance.height, 'topic')} the difference may be chance." if chance.height else ""
    return Chart(title, reading, drawn, layout, height=90 + 24 * found.height, wide=True)


def dots(name: str, colour: str, found: pl.DataFrame) -> dict[str, Any]:
    """Return a trace of topics' click-through rates with their intervals."""
    more, less = ((found["high"] - found["ctr"]).clip(0), (found["ctr"] - found["low"]).clip(0))
    spread = {"type": "data", "array": more.to_list(), "arrayminus": less.to_list(), "color": colour, "width": 0}
    look = {"mode": "markers", "marker": {"color": colour, "size": 9}, "error_x": spread}
    xy = {"x": found["ctr"].to_list(), "y": [label(topic) for topic in found["topic"]]}
    return {"type": "scatter", "name": name, "hovertemplate": "%{y}: %{x:.1%}<extra></extra>", **look, **xy}


def interval(part: pl.Expr, whole: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the Wilson score interval of part / whole: its ends."""
    share, z = (part / whole).clip(0, 1), NINE_IN_TEN
    middle = share + z**2 / (2 * whole)
    spread = z * (share * (1 - share) / whole + z**2 / (4 * whole**2)).sqrt()
    return (middle - spread) / (1 + z**2 / whole), (middle + spread) / (1 + z**2 / whole)


def of_tone(rows: pl.DataFrame) -> Grid:
    """Return how advertisements do beside pages of each sentiment."""
    found = largest(rated(rows, "sentiment").filter(pl.col("impressions") > 0), "ctr", "sentiment")
    if found.is_empty():
        return Grid("By sentiment of the page", wide=False)
    best, worst = found.row(0, named=True), found.row(-1, named=True)
    reading = f"Beside {best['sentiment']} pages {percent(best['ctr'])} of impressions were clicked"
    reading += f", beside {worst['sentiment']} ones {percent(worst['ctr'])}." if found.height > 1 else "."
    return Grid(
        "By sentiment of the page",
        reading,
        [Column("sentiment", "Sentiment", "name"), *RATED[:4]],
        found.to_dicts(),
        wide=False,
    )


def of_risk(rows: pl.DataFrame) -> Grid:
    """Return how advertisements do beside pages of each risk."""
    rank = pl.col("risk").replace_strict({risk: i for i, risk in enumerate(RISKS)}, default=9, return_dtype=pl.Int64)
    found = rated(rows, "risk").filter(pl.col("impressions") > 0).sort(rank, descending=True)
    if found.is_empty():
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
        [Column("risk", "Risk", "chip"), *RATED[:4]],
        found.to_dicts(),
        wide=False,
    )


def topics_paid(rows: pl.DataFrame) -> Grid:
    """Return what each topic cost and brought."""
    found = largest(rated(rows, "topic").filter(pl.col("impressions") > 0), "revenue_usd", "topic")
    if found.is_empty():
        return Grid("What each topic brought")
    names, held = concentration(found, "topic", "revenue_usd")
    reading = "No topic brought revenue."
    if names:
        reading = f"{percent(held)} of revenue came from {len(names)} of {counted(found.height, 'topic')}."
    shown = found.head(MOST_TOPICS)
    reading += f" The {MOST_TOPICS} with the most revenue are shown." if found.height > MOST_TOPICS else ""
    return Grid("What each topic brought", reading, [Column("topic", "Topic"), *RATED, *PAID], shown.to_dicts())


def campaigns(rows: pl.DataFrame) -> Grid:
    """Return what each campaign cost and brought."""
    tenants = rows.group_by("campaign_id").agg(pl.col("tenant_id").unique().sort().str.join(", "))
    found = rated(rows, "campaign_id").join(tenants, on="campaign_id").filter(pl.col("impressions") > 0)
    found = largest(found, "cost_usd", "campaign_id")
    if found.is_empty():
        return Grid("Campaigns by spend")
    most, paid = found.row(0, named=True), largest(found, "roas", "campaign_id").row(0, named=True)
    reading = (
        f"{most['campaign_id']} spent the most, {dollars(most['cost_usd'])} of {dollars(total(found, 'cost_usd'))}."
    )
    reading += f" {paid['campaign_id']} brought the most for a dollar: {dollars(paid['roas'])}." if paid["roas"] else ""
    columns = [Column("campaign_id", "Campaign", "name"), Column("tenant_id", "Tenants"), *RATED, *PAID]
    return Grid("Campaigns by spend", reading, columns, found.head(MOST_CAMPAIGNS).to_dicts())


def rhythm(hourly: pl.DataFrame) -> Chart:
    """Return impressions by weekday and hour, of a mean such day."""
    title = "Impressions by weekday and hour (UTC)"
    if not total(hourly, "impressions"):
        return Chart(title)
    weekday, hour = pl.col(DAY).dt.weekday(), pl.col("hour").dt.hour()
    days = hourly.group_by(weekday=weekday).agg(days=pl.col(DAY).n_unique())
    found = hourly.group_by(weekday=weekday, hour=hour).agg(pl.col("impressions").sum()).join(days, on="weekday")
    cells = {(day, at): number / of for day, at, number, of in found.rows()}
    shown, clock = sorted(days["weekday"]), range(24)
    weekdays, hours = [WEEKDAYS[day - 1] for day in shown], [f"{at:02}" for at in clock]
    drawn = heat(hours, weekdays, [[cells.get((day, at)) for at in clock] for day in shown])
    (day, at), most = max(cells.items(), key=lambda cell: (cell[1], cell[0]))
    by_hour = hourly.group_by(hour=hour).agg(pl.col("impressions").sum())
    quiet = by_hour.sort("impressions", "hour")["hour"][0]
    reading = (
        f"{WEEKDAYS[day - 1]} from {at:02}:00 is the busiest hour, with {counted(most, 'impression')}; "
        f"over all days the quietest begins at {quiet:02}:00."
    )
    return Chart(title, reading, [drawn], crossing(hours, weekdays), height=70 + 32 * len(shown), wide=True)


def funnel(rtb: pl.DataFrame) -> Chart:
    """Return what becomes of bid requests."""
    title = "From bid request to win"
    asked, bids, lost, wins, auctions = rtb.select(
        pl.col("bid_requests").sum(),
        pl.col("bids").sum(),
        (pl.col("timeouts") + pl.col("errors")).sum().alias("lost"),
        pl.col("wins", "auctions").sum(),
    ).row(0)
    if not asked:
        return Chart(title)
    steps = {"Bid requests": asked, "Answered in time": asked - lost, "Bids": bids, "Wins": wins}
    drawn = {
        "type": "funnel",
        "x": list(steps.values()),
        "y": [f"{name} · {percent(number / asked)}" for name, number in steps.items()],
        "texttemplate": "%{value:,.0f}",
        "marker": {"color": ["var(--accent)"] * len(steps), "line": {"width": 0}},
        "connector": {"fillcolor": "var(--accent-soft)", "line": {"width": 0}},
        "hoverinfo": "skip",
    }
    reading = (
        f"{percent(bids / asked)} of {counted(asked, 'bid request')} drew a bid; "
        f"{percent(wins / auctions)} of {counted(auctions, 'auction')} had a winner."
    )
    return Chart(title, reading, [drawn], {"yaxis": {"showgrid": False}})


def losses(rtb: pl.DataFrame) -> Chart:
    """Return the bid requests that no answer came to in time, by day."""
    title = "Bid requests lost to time-outs and errors, by day"
    if not total(rtb, "bid_requests"):
        return Chart(title)
    shares = {name: ratio(pl.col(name).sum(), pl.col("bid_requests").sum()) for name in ("timeouts", "errors")}
    named = {"timeouts": ("timed out", "var(--high)"), "errors": ("failed", "var(--floor)")}
    drawn = [bars(*named[name], by_day(rtb, share), "percent") for name, share in shares.items()]
    late, failed = rtb.select(**shares).row(0)
    daily = rtb.group_by(DAY).agg(lost=shares["timeouts"] + shares["errors"])
    worst, most = largest(daily, "lost", DAY).row(0)
    reading = (
        f"{percent(late)} of bid requests timed out and {percent(failed)} failed; "
        f"{worst:%-d %B} was the worst day, with {percent(most)} lost."
    )
    return Chart(title, reading, drawn, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%"}})


def bidders(auctions: pl.LazyFrame) -> pl.DataFrame:
    """Return how each bidder answers: winner and bids of silver/rtb_auctions, by bidder."""
    status, latency = pl.col("status"), pl.col("latency_ms")
    asked = auctions.explode("bids").unnest("bids").filter(pl.col("bidder").is_not_null())
    won = (status == "bid") & (pl.col("winner") == pl.col("bidder"))
    found = asked.group_by("bidder").agg(
        bid_requests=pl.len().cast(pl.Int64),
        bid_share=(status == "bid").mean(),
        won_share=ratio(won.sum(), (status == "bid").sum()),
        timeout_share=(status == "timeout").mean(),
        error_share=(status == "error").mean(),
        median_ms=latency.median(),
        p95_ms=latency.quantile(0.95),
        price=pl.col("price_cpm_usd").filter(status == "bid").mean(),
    )
    return found.sort("bidder").collect()


def bidding(by_bidder: pl.DataFrame) -> Grid:
    """Return how bidders compare."""
    found = largest(by_bidder, "bid_requests", "bidder")
    if found.is_empty():
        return Grid("Bidders")
    late, slow = (largest(found, name, "bidder").row(0, named=True) for name in ("timeout_share", "p95_ms"))
    reading = f"{late['bidder']} times out most often ({percent(late['timeout_share'])})."
    reading += (
        f" One answer in twenty of {slow['bidder']} takes {slow['p95_ms']:,.0f} ms or more." if slow["p95_ms"] else ""
    )
    columns = [
        Column("bidder", "Bidder", "name"),
        Column("bid_requests", "Bid requests", "count"),
        Column("bid_share", "Bids", "bar"),
        Column("won_share", "Bids won", "bar"),
        Column("timeout_share", "Timed out", "bar"),
        Column("error_share", "Failed", "percent"),
        Column("median_ms", "Median ms", "count"),
        Column("p95_ms", "95th percentile ms", "count"),
        Column("price", "Mean bid CPM", "dollars"),
    ]
    return Grid("Bidders", reading, columns, found.to_dicts())


def fill(inventory: pl.DataFrame) -> Chart:
    """Return the share of slots that were filled, by day and format."""
    title, filled = (
        "Inventory filled, by day and format",
        ratio(pl.col("filled").sum(), pl.col("avails").sum()),
    )
    formats = largest(inventory.group_by("format").agg(pl.col("avails").sum()), "avails", "format")
    formats = formats.filter(pl.col("avails") > 0)["format"].to_list()
    if not formats:
        return Chart(title)
    colours = ("var(--accent)", "var(--second)", "var(--high)", "var(--low)")
    drawn = []
    for name, colour in zip(formats, colours, strict=False):
        part, whole = (pl.col(of).filter(pl.col("format") == name).sum() for of in ("filled", "avails"))
        drawn.append(lines(name, colour, by_day(inventory, ratio(part, whole)), "percent"))
    share, avails = inventory.select(filled.alias("share"), pl.col("avails").sum()).row(0)
    each = [
        f"{percent(inventory.filter(pl.col('format') == name).select(filled).item())} of {name}" for name in formats
    ]
    reading = f"{percent(share)} of {counted(avails, 'slot')} were filled: {listed(each)}."
    return Chart(title, reading, drawn, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%", "rangemode": "tozero"}})


def allowed(inventory: pl.DataFrame) -> Chart:
    """Return the shares of slots whose sellers may sell them, may not, or are not known, by day."""
    title, avails = "Slots by authorisation of their seller, by day", pl.col("avails").sum()
    if not total(inventory, "avails"):
        return Chart(title)
    named = {"authorised": "var(--good)", "unauthorised": "var(--floor)", "unknown": "var(--low)"}
    shares = {name: ratio(pl.col(f"{name}_avails").sum(), avails) for name in named}
    drawn = [bars(name, named[name], by_day(inventory, share), "percent") for name, share in shares.items()]
    yes, no, unknown = inventory.select(**shares).row(0)
    reading = (
        f"{percent(yes)} of slots were offered by sellers that ads.txt and sellers.json allow, "
        f"{percent(no)} by others; of {percent(unknown)} it is not known."
    )
    return Chart(title, reading, drawn, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%"}})


def matches(syncs: pl.DataFrame) -> Chart:
    """Return how many of the users each partner could match."""
    title, attempts = "User matching by partner", pl.col("attempts").sum()
    found = syncs.group_by("partner").agg(
        *(ratio(pl.col(name).sum(), attempts).alias(name) for name in ("matched", "unmatched", "errors")),
        attempts=attempts,
    )
    found = largest(found.filter(pl.col("attempts") > 0), "matched", "partner")
    if found.is_empty():
        return Chart(title)
    names = [label(name) for name in found["partner"]]
    named = {"matched": "var(--accent)", "unmatched": "var(--low)", "errors": "var(--high)"}
    drawn = [bars(name, colour, {"x": found[name].to_list(), "y": names}, "percent") for name, colour in named.items()]
    share = syncs.select(ratio(pl.col("matched").sum(), attempts)).item()
    best, worst = found.row(0, named=True), found.row(-1, named=True)
    reading = f"{percent(share)} of {counted(total(found, 'attempts'), 'attempt')} matched: {best['partner']} "
    reading += f"{percent(best['matched'])}"
    reading += f", {worst['partner']} only {percent(worst['matched'])}." if found.height > 1 else "."
    return Chart(title, reading, drawn, lying("percent", found["partner"]))


def crowd(authors: pl.DataFrame) -> pl.DataFrame:
    """Return the days on which enough authors wrote that none of them can be told."""
    days = authors.group_by(DAY).agg(pl.col("author_id").n_unique()).filter(pl.col("author_id") >= LEAST_AUTHORS)
    return authors.filter(pl.col(DAY).is_in(days[DAY].implode()))


def sentiments(authors: pl.DataFrame) -> Chart:
    """Return the shares of positive and negative messages, by day."""
    title, found = "Positive and negative messages, by day", crowd(authors)
    if found.is_empty():
        return Chart(title)
    named = {"positive": "var(--good)", "negative": "var(--high)"}
    shares = {name: weighted(f"{name}_share") for name in named}
    drawn = [lines(name, named[name], by_day(found, share), "percent") for name, share in shares.items()]
    positive, negative = found.select(**shares).row(0)
    daily = largest(
        found.group_by(DAY).agg(balance=shares["positive"] - shares["negative"]).drop_nulls(), "balance", DAY
    )
    reading = f"Of {counted(total(found, 'messages'), 'message')}, {percent(positive or 0)} were positive "
    reading += f"and {percent(negative or 0)} negative"
    best, worst = daily.head(1).rows(), daily.tail(1).rows()
    differ = best and best[0][1] > worst[0][1]
    reading += f"; {best[0][0]:%-d %B} was the brightest day, {worst[0][0]:%-d %B} the darkest." if differ else "."
    return Chart(title, reading, drawn, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%", "rangemode": "tozero"}})


def weighted(share: str) -> pl.Expr:
    """Return authors' shares as that of all of their messages."""
    known = pl.col("messages").filter(pl.col(share).is_not_null())
    return ratio((pl.col(share) * pl.col("messages")).sum(), known.sum())


def emotions(authors: pl.DataFrame) -> Chart:
    """Return messages by emotion and day."""
    title, found = "Messages by emotion, by day", crowd(authors)
    named = {
        "joy": "var(--medium)",
        "optimism": "var(--good)",
        "sadness": "var(--accent)",
        "anger": "var(--floor)",
    }
    totals = {name: total(found, f"{name}_messages") for name in named}
    if not sum(totals.values()):
        return Chart(title)
    drawn = [bars(name, colour, by_day(found, pl.col(f"{name}_messages").sum())) for name, colour in named.items()]
    most = max(totals, key=lambda name: (totals[name], name))
    reading = (
        f"{most.capitalize()} is the commonest emotion, in {percent(totals[most] / sum(totals.values()))} of messages."
    )
    return Chart(title, reading, drawn, {"xaxis": BY_DAY})
