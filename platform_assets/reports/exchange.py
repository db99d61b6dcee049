"""Blocks of report pages on the exchange: bid requests, bidders, inventory and the matching of users."""

import polars as pl

from platform_assets.reports.aggregates import largest, ratio, total
from platform_assets.reports.page import Chart, Column, Grid
from platform_assets.reports.plots import BY_DAY, bars, by_day, horizontal_layout, label, lines
from platform_assets.reports.text import join_words, percent, plural
from resources.lakehouse.days import DAY


def funnel(rtb: pl.DataFrame) -> Chart:
    """Return the funnel from bid request to win."""
    title = "From bid request to win"
    bid_requests, bids, lost, wins, auctions = rtb.select(
        pl.col("bid_requests").sum(),
        pl.col("bids").sum(),
        (pl.col("timeouts") + pl.col("errors")).sum().alias("lost"),
        pl.col("wins", "auctions").sum(),
    ).row(0)
    if not bid_requests:
        return Chart(title)
    steps = {"Bid requests": bid_requests, "Answered in time": bid_requests - lost, "Bids": bids, "Wins": wins}
    trace = {
        "type": "funnel",
        "x": list(steps.values()),
        "y": [f"{name} · {percent(number / bid_requests)}" for name, number in steps.items()],
        "texttemplate": "%{value:,.0f}",
        "marker": {"color": ["var(--accent)"] * len(steps), "line": {"width": 0}},
        "connector": {"fillcolor": "var(--accent-soft)", "line": {"width": 0}},
        "hoverinfo": "skip",
    }
    reading = (
        f"{percent(bids / bid_requests)} of {plural(bid_requests, 'bid request')} drew a bid; "
        f"{percent(wins / auctions)} of {plural(auctions, 'auction')} had a winner."
    )
    return Chart(title, reading, [trace], {"yaxis": {"showgrid": False}})


def losses(rtb: pl.DataFrame) -> Chart:
    """Return the chart of bid requests lost to time-outs and errors, by day."""
    title = "Bid requests lost to time-outs and errors, by day"
    if not total(rtb, "bid_requests"):
        return Chart(title)
    shares = {name: ratio(pl.col(name).sum(), pl.col("bid_requests").sum()) for name in ("timeouts", "errors")}
    styles = {"timeouts": ("timed out", "var(--high)"), "errors": ("failed", "var(--floor)")}
    traces = [bars(*styles[name], by_day(rtb, share), "percent") for name, share in shares.items()]
    late, failed = rtb.select(**shares).row(0)
    daily = rtb.group_by(DAY).agg(lost=shares["timeouts"] + shares["errors"])
    worst, most = largest(daily, "lost", DAY).row(0)
    reading = (
        f"{percent(late)} of bid requests timed out and {percent(failed)} failed; "
        f"{worst:%-d %B} was the worst day, with {percent(most)} lost."
    )
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%"}})


def bidders(auctions: pl.LazyFrame) -> pl.DataFrame:
    """Return the outcome and latency of bid requests by bidder, from silver/rtb_auctions."""
    status, latency = pl.col("status"), pl.col("latency_ms")
    bid_rows = auctions.explode("bids").unnest("bids").filter(pl.col("bidder").is_not_null())
    is_won = (status == "bid") & (pl.col("winner") == pl.col("bidder"))
    by_bidder = bid_rows.group_by("bidder").agg(
        bid_requests=pl.len().cast(pl.Int64),
        bid_share=(status == "bid").mean(),
        won_share=ratio(is_won.sum(), (status == "bid").sum()),
        timeout_share=(status == "timeout").mean(),
        error_share=(status == "error").mean(),
        median_ms=latency.median(),
        p95_ms=latency.quantile(0.95),
        price=pl.col("price_cpm_usd").filter(status == "bid").mean(),
    )
    return by_bidder.sort("bidder").collect()


def bidding(by_bidder: pl.DataFrame) -> Grid:
    """Return the table of bidders."""
    bidder_rows = largest(by_bidder, "bid_requests", "bidder")
    if bidder_rows.is_empty():
        return Grid("Bidders")
    late, slow = (largest(bidder_rows, name, "bidder").row(0, named=True) for name in ("timeout_share", "p95_ms"))
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
    return Grid("Bidders", reading, columns, bidder_rows.to_dicts())


def fill(inventory: pl.DataFrame) -> Chart:
    """Return the chart of the fill rate, by day and format."""
    title, filled = (
        "Inventory filled, by day and format",
        ratio(pl.col("filled").sum(), pl.col("avails").sum()),
    )
    formats = largest(inventory.group_by("format").agg(pl.col("avails").sum()), "avails", "format")
    formats = formats.filter(pl.col("avails") > 0)["format"].to_list()
    if not formats:
        return Chart(title)
    colours = ("var(--accent)", "var(--second)", "var(--high)", "var(--low)")
    traces = []
    for name, colour in zip(formats, colours, strict=False):
        part, whole = (pl.col(column).filter(pl.col("format") == name).sum() for column in ("filled", "avails"))
        traces.append(lines(name, colour, by_day(inventory, ratio(part, whole)), "percent"))
    share, avails = inventory.select(filled.alias("share"), pl.col("avails").sum()).row(0)
    each = [
        f"{percent(inventory.filter(pl.col('format') == name).select(filled).item())} of {name}" for name in formats
    ]
    reading = f"{percent(share)} of {plural(avails, 'slot')} were filled: {join_words(each)}."
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%", "rangemode": "tozero"}})


def authorisation(inventory: pl.DataFrame) -> Chart:
    """Return the chart of slots by authorisation of their seller and day."""
    title, avails = "Slots by authorisation of their seller, by day", pl.col("avails").sum()
    if not total(inventory, "avails"):
        return Chart(title)
    colours = {"authorised": "var(--good)", "unauthorised": "var(--floor)", "unknown": "var(--low)"}
    shares = {name: ratio(pl.col(f"{name}_avails").sum(), avails) for name in colours}
    traces = [bars(name, colours[name], by_day(inventory, share), "percent") for name, share in shares.items()]
    authorised, unauthorised, unknown = inventory.select(**shares).row(0)
    reading = (
        f"{percent(authorised)} of slots were offered by sellers that ads.txt and sellers.json allow, "
        f"{percent(unauthorised)} by others; of {percent(unknown)} it is not known."
    )
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%"}})


def matches(syncs: pl.DataFrame) -> Chart:
    """Return the chart of user matching by partner."""
    title, attempts = "User matching by partner", pl.col("attempts").sum()
    partners = syncs.group_by("partner").agg(
        *(ratio(pl.col(name).sum(), attempts).alias(name) for name in ("matched", "unmatched", "errors")),
        attempts=attempts,
    )
    partners = largest(partners.filter(pl.col("attempts") > 0), "matched", "partner")
    if partners.is_empty():
        return Chart(title)
    names = [label(name) for name in partners["partner"]]
    colours = {"matched": "var(--accent)", "unmatched": "var(--low)", "errors": "var(--high)"}
    traces = [
        bars(name, colour, {"x": partners[name].to_list(), "y": names}, "percent") for name, colour in colours.items()
    ]
    share = syncs.select(ratio(pl.col("matched").sum(), attempts)).item()
    best, worst = partners.row(0, named=True), partners.row(-1, named=True)
    reading = f"{percent(share)} of {plural(total(partners, 'attempts'), 'attempt')} matched: {best['partner']} "
    reading += f"{percent(best['matched'])}"
    reading += f", {worst['partner']} only {percent(worst['matched'])}." if partners.height > 1 else "."
    return Chart(title, reading, traces, horizontal_layout("percent", partners["partner"]))
