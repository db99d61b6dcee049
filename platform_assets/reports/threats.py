"""Blocks of the risk page on threats, and on what was spent beside them."""

import polars as pl

from platform_assets.reports.aggregates import concentration, largest, ratio, total
from platform_assets.reports.page import Chart
from platform_assets.reports.plots import (
    BY_DAY,
    NUMBER_FORMATS,
    RISKS,
    bars,
    by_day,
    count_axis,
    heatmap,
    heatmap_layout,
    horizontal_layout,
    label,
)
from platform_assets.reports.risk_measures import COST, DOCUMENTS, IMPRESSIONS, RISKY_COST, SHADES, THREATENING
from platform_assets.reports.text import count, dollars, percent, plural
from resources.lakehouse.days import DAY
from signals.risks import RISKY

MAX_TOPICS, MAX_CAMPAIGNS = 16, 12


def threats_by_day(pages: pl.DataFrame) -> Chart:
    """Return the chart of pages with a threat by day, each threat in a shade of its risk."""
    title, threatening = "Pages with a threat, by day", pages.filter(THREATENING & (pl.col("documents") > 0))
    if threatening.is_empty():
        return Chart(title)
    threats = largest(threatening.group_by("risk", "threat_name").agg(DOCUMENTS), "documents", "threat_name")
    traces = []
    for risk, shades in SHADES.items():
        for i, name in enumerate(threats.filter(pl.col("risk") == risk)["threat_name"]):
            count_of_threat = pl.col("documents").filter((pl.col("threat_name") == name) & (pl.col("risk") == risk))
            shown = name if (threats["threat_name"] == name).sum() == 1 else f"{name}, {risk}"
            traces.append(bars(shown, shades[min(i, len(shades) - 1)], by_day(pages, count_of_threat.sum())))
    number, name, most = total(threats, "documents"), threats["threat_name"][0], threats["documents"][0]
    worst, on_day = largest(threatening.group_by(DAY).agg(DOCUMENTS), "documents", DAY).row(0)
    reading = (
        f"“{name}” is the commonest of {plural(number, 'threat')} found ({percent(most / number)}); "
        f"{worst:%-d %B} was the worst day, with {count(on_day)}."
    )
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": count_axis(on_day)}, height=370)


def spend_by_day(pages: pl.DataFrame) -> Chart:
    """Return the chart of spend beside pages with a threat, by day and risk."""
    title, threatening = (
        "Spend beside pages with a threat, by day",
        pages.filter(THREATENING & (pl.col("cost_usd") > 0)),
    )
    if threatening.is_empty():
        return Chart(title)
    by_risk = {risk: pl.col("cost_usd").filter(pl.col("risk") == risk).sum() for risk in SHADES}
    traces = [bars(risk, RISKS[risk], by_day(pages, cost), "dollars") for risk, cost in by_risk.items()]
    floor, high, medium = threatening.select(**by_risk).row(0)
    worst, most = largest(threatening.group_by(DAY).agg(RISKY_COST), "cost_usd", DAY).row(0)
    reading = (
        f"{dollars(floor)} ran beside floor content, {dollars(high)} beside high and {dollars(medium)} beside medium "
        f"risk; {worst:%-d %B} was the day with most beside high or floor, {dollars(most)}."
    )
    return Chart(
        title, reading, traces, {"xaxis": BY_DAY, "yaxis": {"tickformat": NUMBER_FORMATS["dollars"]}}, height=370
    )


def topics_and_threats(pages: pl.DataFrame) -> Chart:
    """Return the heat map of topics and threats."""
    title, threatening = "Where topics and threats meet", pages.filter(THREATENING & (pl.col("documents") > 0))
    if threatening.is_empty():
        return Chart(title)
    cells = threatening.group_by("topic", "threat_name").agg(DOCUMENTS)
    topics, threats = (
        largest(cells.group_by(name).agg(DOCUMENTS), "documents", name)[name].to_list()
        for name in ("topic", "threat_name")
    )
    numbers = {(topic, threat): number for topic, threat, number in cells.rows()}
    names, share = concentration(threatening, "topic", "documents")
    topic, threat, most = largest(cells, "documents", "topic", "threat_name").row(0)
    reading = (
        f"{topic} and “{threat}” meet most often, on {plural(most, 'page')}; {percent(share)} of the pages with a "
        f"threat are about {len(names)} of {plural(len(topics), 'topic')}."
    )
    top_topics = topics[:MAX_TOPICS]
    cell = heatmap(threats, top_topics, [[numbers.get((topic, threat)) for threat in threats] for topic in top_topics])
    return Chart(
        title, reading, [cell], heatmap_layout(threats, top_topics, -35), height=150 + 26 * len(top_topics), wide=True
    )


def spend_by_campaign(campaigns: pl.DataFrame) -> Chart:
    """Return the chart of each campaign's spend beside risky pages."""
    title, levels = "Spend beside risky pages, by campaign", RISKY[::-1]
    campaign_rows = campaigns.group_by("campaign_id").agg(
        *(pl.col("cost_usd").filter(pl.col("risk") == level).sum().alias(level) for level in levels),
        cost_usd=RISKY_COST,
        share=ratio(RISKY_COST, COST),
    )
    campaign_rows = largest(campaign_rows.filter(pl.col("cost_usd") > 0), "cost_usd", "campaign_id")
    if campaign_rows.is_empty():
        return Chart(title)
    names, concentrated = concentration(campaign_rows, "campaign_id", "cost_usd")
    top = largest(campaign_rows, "share", "campaign_id").row(0, named=True)
    number = plural(campaigns["campaign_id"].n_unique(), "campaign")
    reading = (
        f"{percent(concentrated)} of the spend beside risky pages came from {len(names)} of {number}. "
        f"{top['campaign_id']} spent the largest part of its own money there: {percent(top['share'])}."
    )
    top_rows = campaign_rows.head(MAX_CAMPAIGNS)
    names = [label(name) for name in top_rows["campaign_id"]]
    traces = [bars(level, RISKS[level], {"x": top_rows[level].to_list(), "y": names}, "dollars") for level in levels]
    layout = horizontal_layout("dollars", top_rows["campaign_id"])
    return Chart(title, reading, traces, layout, height=90 + 27 * top_rows.height)


def spend_by_threat(pages: pl.DataFrame) -> Chart:
    """Return the chart of spend beside each threat."""
    title = "Spend beside each threat"
    threat_rows = pages.filter(THREATENING).group_by("threat_name", "risk").agg(COST, IMPRESSIONS)
    threat_rows = largest(threat_rows.filter(pl.col("cost_usd") > 0), "cost_usd", "threat_name")
    if threat_rows.is_empty():
        return Chart(title)
    traces = []
    for risk in SHADES:
        subset = threat_rows.filter(pl.col("risk") == risk)
        names = [label(name) for name in subset["threat_name"]]
        traces.append(bars(risk, RISKS[risk], {"x": subset["cost_usd"].to_list(), "y": names}, "dollars"))
    top = threat_rows.row(0, named=True)
    reading = (
        f"“{top['threat_name']}” took the most, {dollars(top['cost_usd'])} for "
        f"{plural(top['impressions'], 'impression')}: {percent(top['cost_usd'] / total(threat_rows, 'cost_usd'))} "
        "of what was spent beside any threat."
    )
    layout = horizontal_layout("dollars", threat_rows["threat_name"])
    return Chart(title, reading, traces, layout, height=90 + 27 * threat_rows.height)
