"""One row is the pages, or messages, of one topic, threat and risk in one place on one day, with the ads beside them.

``documents`` are those decided that day. Impressions and cost are the day's, on such pages, whenever those were
decided. Its page is ``reports/risk_analysis.html``, on the last 28 days.
"""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.reports.aggregates import concentration, largest, ratio, total
from platform_assets.reports.context import EVENTS, SIGNALS, ad_performance
from platform_assets.reports.gravest_pages import gravest, listing
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
from platform_assets.reports.plots import BY_DAY, by_day, lines
from platform_assets.reports.risk_measures import (
    COST,
    DOCUMENTS,
    FLOOR_DOCUMENTS,
    IS_RISKY,
    JUDGED,
    RISKY_COST,
    RISKY_DOCUMENTS,
    RISKY_IMPRESSIONS,
    THREAT_NAMES,
    commonest_threat,
)
from platform_assets.reports.text import dollars, join_words, percent, plural
from platform_assets.reports.threats import (
    spend_by_campaign,
    spend_by_day,
    spend_by_threat,
    threats_by_day,
    topics_and_threats,
)
from resources.lakehouse.days import DAY
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse
from signals.risks import UNKNOWN

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
MAX_SITES = 15
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
