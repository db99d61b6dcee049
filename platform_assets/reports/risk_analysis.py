"""One row is the pages, or messages, of one topic, threat and risk in one place on one day, with the ads beside them.

``documents`` are those decided that day. Impressions and cost are the day's, on such pages, whenever those were
decided. Its page is ``reports/risk_analysis.html``, on the last 28 days.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.reports.context import EVENTS, SIGNALS, ad_performance
from platform_assets.reports.page import (
    BY_DAY,
    KINDS,
    NUMBER_FORMATS,
    RISKS,
    UNKNOWN,
    Chart,
    Column,
    Grid,
    Page,
    Section,
    bars,
    by_day,
    concentration,
    count,
    count_axis,
    dollars,
    headline,
    heatmap,
    heatmap_layout,
    horizontal_layout,
    join_words,
    label,
    largest,
    last_days,
    lines,
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
from signals.risks import RISKY
from signals.tasks import TASKS

TABLE = "reports/risk_analysis"
MESSAGES, DECISIONS, CAMPAIGNS = "silver/message_signals", "silver/decisions", "reports/business_insights"
INPUTS = (SIGNALS, EVENTS, MESSAGES)
KEY = [DAY, "tenant_id", "kind", "place", "topic", "threat", "risk"]
MODEL_COLUMNS = (DAY, "tenant_id", "threat", "threat_score", "toxicity", "hate")
PAGE_COLUMNS = (
    *(DAY, "tenant_id", "document_id", "url", "site", "title", "fetched_at"),
    *("threat", "threat_score", "risk", "evidence"),
)
AD_MEASURES = ("impressions", "viewable", "clicks", "cost_usd")
THREAT_NAMES = {**TASKS["threat"].names, UNKNOWN: "Not judged"}
MAX_PAGES, MAX_SITES, MAX_TOPICS, MAX_CAMPAIGNS = 15, 15, 16, 12
# Threats have shades of the colour of their risk, gravest risk first.
SHADES = {
    "floor": ("var(--floor)", "var(--floor-2)", "var(--floor-3)", "var(--floor-4)"),
    "high": ("var(--high)", "var(--high-2)", "var(--high-3)"),
    "medium": ("var(--medium)", "var(--medium-2)", "var(--medium-3)"),
}
IS_RISKY, THREATENING = pl.col("risk").is_in(RISKY), pl.col("risk").is_in(list(SHADES))
RANK = pl.col("risk").replace_strict(
    {risk: rank for rank, risk in enumerate(RISKS)}, default=None, return_dtype=pl.Int64
)
DOCUMENTS = pl.col("documents").sum()
JUDGED = pl.col("documents").filter(pl.col("threat") != UNKNOWN).sum()
RISKY_DOCUMENTS = pl.col("documents").filter(IS_RISKY).sum()
FLOOR_DOCUMENTS = pl.col("documents").filter(pl.col("risk") == "floor").sum()
COST, RISKY_COST = pl.col("cost_usd").sum(), pl.col("cost_usd").filter(IS_RISKY).sum()
IMPRESSIONS, RISKY_IMPRESSIONS = pl.col("impressions").sum(), pl.col("impressions").filter(IS_RISKY).sum()
TERMS = {
    "Threat": "What an advertiser may not want to stand beside, after the sensitive topics of the IAB Content "
    "Taxonomy 3.1.",
    "Risk": "How grave it is: low (no threat), medium, high, or floor.",
    "Floor": "What no advertiser should be shown beside: adult content, hate speech, spam and malware, terrorism.",
    "Risky": "Of high or floor risk, and so not brand-safe. Medium is for each advertiser to decide.",
    "Judged": "A model has said which threat the document carries, if any.",
    "Decision": "The stored answer of the model; “seamless audit” shows where it came from.",
    "Score": "How sure the model is, from 0 to 1.",
    "Spend beside": "What impressions on such pages cost, in US dollars.",
    "Offensive, hateful": "Answers of the toxicity and the hate model; a message can be both.",
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=[DECISIONS, CAMPAIGNS], kinds=KINDS))
def risk_analysis(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Count documents by risk and place, and the ads beside them."""
    write = start(context, lakehouse, TABLE, INPUTS)
    pages, messages = (lakehouse.read(table, write.days) for table in (SIGNALS, MESSAGES))
    rows = risks(pages, messages, ad_performance(lakehouse, write.days))
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    return write.result({"page": publish(lakehouse, TABLE, page(snapshot(lakehouse)))}, rows_out=rows.height)


def risks(pages: pl.DataFrame, messages: pl.DataFrame, ads: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of this table.

    Args:
        pages: gold/contextual_signals.
        messages: silver/message_signals.
        ads: see ``context.ad_performance``.
    """
    page_rows = pages.select(*MODEL_COLUMNS, "risk", kind=pl.lit("page"), place="site", topic="iab_category_name")
    message_rows = messages.select(
        *MODEL_COLUMNS, risk="threat_risk", kind=pl.lit("message"), place="platform", topic="iab_category_name"
    )
    documents = pl.concat([page_rows, message_rows]).with_columns(pl.col(KEY[1:]).fill_null(UNKNOWN))
    judged = documents.group_by(KEY).agg(
        documents=pl.len().cast(pl.Int64),
        mean_threat_score=pl.col("threat_score").mean().round(6),
        offensive=(pl.col("toxicity") == "offensive").sum().cast(pl.Int64),
        hateful=(pl.col("hate") == "hate").sum().cast(pl.Int64),
    )
    advertising = (
        ads.with_columns(kind=pl.lit("page"), place="site").group_by(KEY).agg(pl.col(AD_MEASURES).sum().round(6))
    )
    rows = judged.join(advertising, on=KEY, how="full", coalesce=True).sort(KEY)
    counts = pl.col("documents", "offensive", "hateful", *AD_MEASURES).fill_null(0)
    return rows.with_columns(counts, threat_name=pl.col("threat").replace(THREAT_NAMES))


def page(lakehouse: Lakehouse) -> Page:
    """Return the page on the last days of the table."""
    days = last_days(lakehouse, [TABLE])
    rows, campaigns = read(lakehouse, TABLE, days), read(lakehouse, CAMPAIGNS, days)
    worst = gravest(read(lakehouse, SIGNALS, days, PAGE_COLUMNS))
    of_worst = pl.col("document_id").is_in(worst["document_id"].implode()) & (pl.col("task") == "threat")
    answers = (
        lakehouse.scan(DECISIONS, days or None)
        .filter(of_worst, pl.col("traffic_arm") != "shadow")
        .select("decision_id", "tenant_id", "document_id", "label", "decided_at")
    )
    made_from = versions(lakehouse, [TABLE, CAMPAIGNS, *INPUTS, DECISIONS])
    return build_page(rows, campaigns, worst, answers.collect(), made_from)


def build_page(
    rows: pl.DataFrame,
    campaigns: pl.DataFrame,
    worst: pl.DataFrame,
    answers: pl.DataFrame,
    made_from: Mapping[str, int],
) -> Page:
    """Return the page.

    Args:
        rows: rows of this table.
        campaigns: reports/business_insights of the same days.
        worst: see ``gravest``.
        answers: decision_id, tenant_id, document_id, label and decided_at of decisions about them.
        made_from: versions of the tables read.
    """
    pages, messages = (rows.filter(pl.col("kind") == kind) for kind in ("page", "message"))
    return Page(
        title="Risk analysis",
        purpose="What is risky, where it is, and what ran beside it.",
        finding=finding(pages, campaigns),
        headlines=[
            headline("Pages judged", pages, JUDGED, "count"),
            headline("Risky share of pages", pages, ratio(RISKY_DOCUMENTS, JUDGED), "percent", rising="bad"),
            headline("Floor pages", pages, FLOOR_DOCUMENTS, "count", rising="bad"),
            headline("Impressions beside risky pages", pages, RISKY_IMPRESSIONS, "count", rising="bad"),
            headline("Spend beside risky pages", pages, RISKY_COST, "dollars", rising="bad"),
            headline("Share of all spend", pages, ratio(RISKY_COST, COST), "percent", rising="bad"),
        ],
        sections=[
            Section("What was found", [threats_by_day(pages), spend_by_day(pages), topics_and_threats(pages)]),
            Section("Where it is", [sites(pages)]),
            Section("What ran beside it", [spend_by_campaign(campaigns), spend_by_threat(pages)]),
            Section("The most dangerous pages", [listing(worst, answers)]),
            Section("Messages", [message_shares(messages), platforms(messages)]),
        ],
        terms=TERMS,
        days=rows[DAY].unique().sort().to_list(),
        versions=made_from,
    )


def finding(pages: pl.DataFrame, campaigns: pl.DataFrame) -> str:
    """Return the page's finding."""
    judged, risky, spent, cost = pages.select(judged=JUDGED, risky=RISKY_DOCUMENTS, spent=COST, cost=RISKY_COST).row(0)
    if not judged:
        return "No page was judged in these days."
    text = f"{percent(risky / judged)} of {plural(judged, 'judged page')} are risky."
    if not spent:
        return f"{text} No advertisement is known to have run."
    names, share = concentration(campaigns.filter(IS_RISKY), "campaign_id", "cost_usd")
    by_whom = f"; {percent(share)} of that was spent by {join_words(names)}" if 1 <= len(names) <= 3 else ""
    return f"{text} {dollars(cost)} of advertising, {percent(cost / spent)} of all spend, ran beside them{by_whom}."


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


def sites(pages: pl.DataFrame) -> Grid:
    """Return the table of sites with the most risky pages."""
    site_rows = pages.group_by("place", "tenant_id").agg(
        documents=DOCUMENTS,
        risky=RISKY_DOCUMENTS,
        share=ratio(RISKY_DOCUMENTS, JUDGED),
        floor=FLOOR_DOCUMENTS,
        threat=commonest_threat(),
        impressions=RISKY_IMPRESSIONS,
        cost_usd=RISKY_COST,
    )
    site_rows = largest(site_rows.filter(pl.col("risky") > 0), ["risky", "share"], "place")
    if site_rows.is_empty():
        return Grid("Riskiest sites")
    all_sites = plural(pages["place"].n_unique(), "site")
    names, concentrated = concentration(site_rows, "place", "risky")
    top = largest(site_rows, ["share", "risky"], "place").row(0, named=True)
    reading = (
        f"{percent(concentrated)} of the risky pages are on {len(names)} of {all_sites}. "
        f"{top['place']} has the highest share: {percent(top['share'])} of {plural(top['documents'], 'page')}."
    )
    columns = [
        Column("place", "Site", "name", link="url"),
        Column("tenant_id", "Tenant", "name"),
        Column("documents", "Pages", "count"),
        Column("risky", "Risky", "count"),
        Column("share", "Risky share", "bar"),
        Column("floor", "Floor", "count"),
        Column("threat", "Commonest threat"),
        Column("impressions", "Impressions beside risk", "count"),
        Column("cost_usd", "Spend beside risk", "dollars"),
    ]
    rows = site_rows.head(MAX_SITES).with_columns(url=pl.concat_str(pl.lit("https://"), "place"))
    return Grid("Riskiest sites", reading, columns, rows.to_dicts())


def commonest_threat() -> pl.Expr:
    """Return the most common threat of a group, by documents."""
    threats = THREATENING & (pl.col("documents") > 0)
    names, numbers = pl.col("threat_name").filter(threats), pl.col("documents").filter(threats)
    return names.sort_by(numbers, names, descending=[True, False]).first()


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


def gravest(signals: pl.DataFrame) -> pl.DataFrame:
    """Return the newest signals of the gravest pages: by risk, then by score."""
    newest = signals.sort("fetched_at", "url").unique(["tenant_id", "document_id"], keep="last").filter(IS_RISKY)
    order = [False, True, False]
    return newest.sort(RANK, "threat_score", "url", descending=order, nulls_last=True).head(MAX_PAGES)


def listing(worst: pl.DataFrame, answers: pl.DataFrame) -> Grid:
    """Return the table of the gravest pages, with the decision about each."""
    title = f"The {MAX_PAGES} gravest, the surest first"
    if worst.is_empty():
        return Grid(title)
    newest = answers.rename({"label": "threat"}).sort("decided_at", "decision_id")
    key = ["tenant_id", "document_id", "threat"]
    rows = worst.join(newest.unique(key, keep="last"), on=key, how="left", maintain_order="left").with_columns(
        title=pl.coalesce(pl.col("title").replace("", None), "url"), threat_name=pl.col("threat").replace(THREAT_NAMES)
    )
    floor = worst.filter(pl.col("risk") == "floor").height
    reading = (
        f"{floor} of these {plural(worst.height, 'page')} {'is' if floor == 1 else 'are'} floor content. "
        "The words spoke most for the threat; “seamless explain” with a page's address shows the passage."
    )
    columns = [
        Column("risk", "Risk", "chip"),
        Column("threat_name", "Threat"),
        Column("threat_score", "Score", "decimal"),
        Column("words", "Words"),
        Column("title", "Page", "title", link="url"),
        Column("site", "Site", "name"),
        Column(DAY, "Judged", "moment"),
        Column("decision_id", "Decision", "code"),
    ]
    return Grid(title, reading, columns, [row | {"words": _telling_words(row)} for row in rows.to_dicts()])


def _telling_words(page: dict[str, Any]) -> str:
    """Return the words of the evidence for a page's threat."""
    of_threat = (one["words"] for one in page["evidence"] or [] if one["label"] == page["threat"])
    return ", ".join(next(of_threat, []))


def message_shares(messages: pl.DataFrame) -> Chart:
    """Return the chart of the shares of risky, offensive and hateful messages by day."""
    title = "Risky, offensive and hateful messages, by day"
    if not total(messages, "documents"):
        return Chart(title)
    shares = {
        "risky": ("var(--high)", ratio(RISKY_DOCUMENTS, JUDGED)),
        "offensive": ("var(--accent)", ratio(pl.col("offensive").sum(), DOCUMENTS)),
        "hateful": ("var(--floor)", ratio(pl.col("hateful").sum(), DOCUMENTS)),
    }
    traces = [lines(name, colour, by_day(messages, share), "percent") for name, (colour, share) in shares.items()]
    offensive, hateful, number = messages.select(
        offensive=shares["offensive"][1], hateful=shares["hateful"][1], number=DOCUMENTS
    ).row(0)
    worst, most = largest(messages.group_by(DAY).agg(share=shares["offensive"][1]), "share", DAY).row(0)
    reading = (
        f"Of {plural(number, 'message')}, {percent(offensive)} were offensive and {percent(hateful)} hateful; "
        f"{worst:%-d %B} was the worst day, with {percent(most)} offensive."
    )
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%", "rangemode": "tozero"}})


def platforms(messages: pl.DataFrame) -> Grid:
    """Return the table of messages by platform."""
    title = "Messages by platform"
    platform_rows = messages.group_by("place").agg(
        documents=DOCUMENTS,
        risky=ratio(RISKY_DOCUMENTS, JUDGED).fill_null(0.0),
        offensive=ratio(pl.col("offensive").sum(), DOCUMENTS),
        hateful=ratio(pl.col("hateful").sum(), DOCUMENTS),
        threat=commonest_threat(),
    )
    platform_rows = largest(platform_rows.filter(pl.col("documents") > 0), "risky", "place")
    if platform_rows.is_empty():
        return Grid(title, wide=False)
    first, last = platform_rows.row(0, named=True), platform_rows.row(-1, named=True)
    reading = f"{first['place']} carries the most risk ({percent(first['risky'])} of its messages)"
    reading += f", {last['place']} the least ({percent(last['risky'])})." if platform_rows.height > 1 else "."
    columns = [
        Column("place", "Platform", "name"),
        Column("documents", "Messages", "count"),
        Column("risky", "Risky", "bar"),
        Column("offensive", "Offensive", "percent"),
        Column("hateful", "Hateful", "percent"),
        Column("threat", "Commonest threat"),
    ]
    return Grid(title, reading, columns, platform_rows.to_dicts(), wide=False)
