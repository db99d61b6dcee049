"""One row is what pages, or messages, of one topic and threat amounted to in one place on one day.

``documents`` are those judged that day; impressions and cost are the day's beside such pages, whenever those were
judged. Its page is ``reports/risk_analysis.html``, on the last 28 days.
"""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.reports.context import EVENTS, SIGNALS, beside
from platform_assets.reports.page import (
    BY_DAY,
    FORMS,
    KINDS,
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
    whole,
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
GIVEN = (DAY, "tenant_id", "threat", "threat_score", "toxicity", "hate")
SEEN = (DAY, "tenant_id", "document_id", "url", "site", "title", "fetched_at", "threat", "threat_score", "risk")
SHOWN = ("impressions", "viewable", "clicks", "cost_usd")
NAMES = {**TASKS["threat"].names, UNKNOWN: "Not judged"}
MOST_DANGEROUS, MOST_SITES, MOST_TOPICS, MOST_CAMPAIGNS = 15, 15, 16, 12
# Threats are drawn in shades of the colour of their risk, gravest risk first.
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
    """Add up what is risky, where, and what ran beside it."""
    write = start(context, lakehouse, TABLE, INPUTS)
    pages, messages = (lakehouse.read(table, write.days) for table in (SIGNALS, MESSAGES))
    rows = risks(pages, messages, beside(lakehouse, write.days))
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    return write.result({"page": publish(lakehouse, TABLE, page(snapshot(lakehouse)))}, rows_out=rows.height)


def risks(pages: pl.DataFrame, messages: pl.DataFrame, ads: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of this table.

    Args:
        pages: gold/contextual_signals.
        messages: silver/message_signals.
        ads: what ``context.beside`` returned.
    """
    of_pages = pages.select(*GIVEN, "risk", kind=pl.lit("page"), place="site", topic="iab_category_name")
    of_messages = messages.select(
        *GIVEN, risk="threat_risk", kind=pl.lit("message"), place="platform", topic="iab_category_name"
    )
    named = pl.concat([of_pages, of_messages]).with_columns(pl.col(KEY[1:]).fill_null(UNKNOWN))
    judged = named.group_by(KEY).agg(
        documents=pl.len().cast(pl.Int64),
        mean_threat_score=pl.col("threat_score").mean().round(6),
        offensive=(pl.col("toxicity") == "offensive").sum().cast(pl.Int64),
        hateful=(pl.col("hate") == "hate").sum().cast(pl.Int64),
    )
    shown = ads.with_columns(kind=pl.lit("page"), place="site").group_by(KEY).agg(pl.col(SHOWN).sum().round(6))
    rows = judged.join(shown, on=KEY, how="full", coalesce=True).sort(KEY)
    counts = pl.col("documents", "offensive", "hateful", *SHOWN).fill_null(0)
    return rows.with_columns(counts, threat_name=pl.col("threat").replace(NAMES))


def page(lakehouse: Lakehouse) -> Page:
    """Return the page on the last days of the table."""
    days = last_days(lakehouse, [TABLE])
    rows, campaigns = read(lakehouse, TABLE, days), read(lakehouse, CAMPAIGNS, days)
    worst = gravest(read(lakehouse, SIGNALS, days, SEEN))
    about = pl.col("document_id").is_in(worst["document_id"].implode()) & (pl.col("task") == "threat")
    answers = (
        lakehouse.scan(DECISIONS, days or None)
        .filter(about, pl.col("traffic_arm") != "shadow")
        .select("decision_id", "tenant_id", "document_id", "label", "decided_at")
    )
    made_from = versions(lakehouse, [TABLE, CAMPAIGNS, *INPUTS, DECISIONS])
    return told(rows, campaigns, worst, answers.collect(), made_from)


def told(
    rows: pl.DataFrame,
    campaigns: pl.DataFrame,
    worst: pl.DataFrame,
    answers: pl.DataFrame,
    made_from: Mapping[str, int],
) -> Page:
    """Return what a person reads.

    Args:
        rows: this table's.
        campaigns: reports/business_insights of the same days.
        worst: the rows of gold/contextual_signals that ``gravest`` chose.
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
            Section("What was found", [threats_by_day(pages), spend_by_day(pages), meeting(pages)]),
            Section("Where it is", [sites(pages)]),
            Section("What ran beside it", [spend_by_campaign(campaigns), spend_by_threat(pages)]),
            Section("The most dangerous pages", [listing(worst, answers)]),
            Section("Messages", [tone(messages), platforms(messages)]),
        ],
        terms=TERMS,
        days=rows[DAY].unique().sort().to_list(),
        versions=made_from,
    )


def finding(pages: pl.DataFrame, campaigns: pl.DataFrame) -> str:
    """Return the page in a sentence or two."""
    judged, risky, spent, cost = pages.select(judged=JUDGED, risky=RISKY_DOCUMENTS, spent=COST, cost=RISKY_COST).row(0)
    if not judged:
        return "No page was judged in these days."
    said = f"{percent(risky / judged)} of {counted(judged, 'judged page')} are risky."
    if not spent:
        return f"{said} No advertisement is known to have run."
    names, held = concentration(campaigns.filter(IS_RISKY), "campaign_id", "cost_usd")
    whose = f"; {percent(held)} of that was spent by {listed(names)}" if 1 <= len(names) <= 3 else ""
    return f"{said} {dollars(cost)} of advertising, {percent(cost / spent)} of all spend, ran beside them{whose}."


def threats_by_day(pages: pl.DataFrame) -> Chart:
    """Return pages with a threat by day, each threat in a shade of its risk."""
    title, found = "Pages with a threat, by day", pages.filter(THREATENING & (pl.col("documents") > 0))
    if found.is_empty():
        return Chart(title)
    threats = largest(found.group_by("risk", "threat_name").agg(DOCUMENTS), "documents", "threat_name")
    drawn = []
    for risk, shades in SHADES.items():
        for i, name in enumerate(threats.filter(pl.col("risk") == risk)["threat_name"]):
            of_it = pl.col("documents").filter((pl.col("threat_name") == name) & (pl.col("risk") == risk))
            drawn.append(bars(name, shades[min(i, len(shades) - 1)], by_day(pages, of_it.sum())))
    number, name, most = total(threats, "documents"), threats["threat_name"][0], threats["documents"][0]
    worst, on_it = largest(found.group_by(DAY).agg(DOCUMENTS), "documents", DAY).row(0)
    reading = (
        f"“{name}” is the commonest of {counted(number, 'threat')} found ({percent(most / number)}); "
        f"{worst:%-d %B} was the worst day, with {count(on_it)}."
    )
    return Chart(title, reading, drawn, {"xaxis": BY_DAY, "yaxis": whole(on_it)}, height=370)


def spend_by_day(pages: pl.DataFrame) -> Chart:
    """Return spend beside pages with a threat, by day and risk."""
    title, found = (
        "Spend beside pages with a threat, by day",
        pages.filter(THREATENING & (pl.col("cost_usd") > 0)),
    )
    if found.is_empty():
        return Chart(title)
    of = {risk: pl.col("cost_usd").filter(pl.col("risk") == risk).sum() for risk in SHADES}
    drawn = [bars(risk, RISKS[risk], by_day(pages, cost), "dollars") for risk, cost in of.items()]
    floor, high, medium = found.select(**of).row(0)
    worst, most = largest(found.group_by(DAY).agg(RISKY_COST), "cost_usd", DAY).row(0)
    reading = (
        f"{dollars(floor)} ran beside floor content, {dollars(high)} beside high and {dollars(medium)} beside medium "
        f"risk; {worst:%-d %B} was the day with most beside high or floor, {dollars(most)}."
    )
    return Chart(title, reading, drawn, {"xaxis": BY_DAY, "yaxis": {"tickformat": FORMS["dollars"]}}, height=370)


def meeting(pages: pl.DataFrame) -> Chart:
    """Return where topics and threats meet."""
    title, found = "Where topics and threats meet", pages.filter(THREATENING & (pl.col("documents") > 0))
    if found.is_empty():
        return Chart(title)
    cells = found.group_by("topic", "threat_name").agg(DOCUMENTS)
    topics, threats = (
        largest(cells.group_by(name).agg(DOCUMENTS), "documents", name)[name].to_list()
        for name in ("topic", "threat_name")
    )
    held = {(topic, threat): number for topic, threat, number in cells.rows()}
    names, share = concentration(found, "topic", "documents")
    topic, threat, most = largest(cells, "documents", "topic", "threat_name").row(0)
    reading = (
        f"{topic} and “{threat}” meet most often, on {counted(most, 'page')}; {percent(share)} of the pages with a "
        f"threat are about {len(names)} of {counted(len(topics), 'topic')}."
    )
    shown = topics[:MOST_TOPICS]
    cell = heat(threats, shown, [[held.get((topic, threat)) for threat in threats] for topic in shown])
    return Chart(title, reading, [cell], crossing(threats, shown, -35), height=150 + 26 * len(shown), wide=True)


def sites(pages: pl.DataFrame) -> Grid:
    """Return the sites with the most risky pages."""
    found = pages.group_by("place", "tenant_id").agg(
        documents=DOCUMENTS,
        risky=RISKY_DOCUMENTS,
        share=ratio(RISKY_DOCUMENTS, JUDGED),
        floor=FLOOR_DOCUMENTS,
        threat=commonest_threat(),
        impressions=RISKY_IMPRESSIONS,
        cost_usd=RISKY_COST,
    )
    found = largest(found.filter(pl.col("risky") > 0), ["risky", "share"], "place")
    if found.is_empty():
        return Grid("Riskiest sites")
    names, held = concentration(found, "place", "risky")
    top = largest(found, ["share", "risky"], "place").row(0, named=True)
    reading = (
        f"{percent(held)} of the risky pages are on {len(names)} of {counted(pages['place'].n_unique(), 'site')}. "
        f"{top['place']} has the highest share: {percent(top['share'])} of {counted(top['documents'], 'page')}."
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
    rows = found.head(MOST_SITES).with_columns(url=pl.concat_str(pl.lit("https://"), "place"))
    return Grid("Riskiest sites", reading, columns, rows.to_dicts())


def commonest_threat() -> pl.Expr:
    """Return the threat of the most documents of a group."""
    threats = THREATENING & (pl.col("documents") > 0)
    names, numbers = pl.col("threat_name").filter(threats), pl.col("documents").filter(threats)
    return names.sort_by(numbers, names, descending=[True, False]).first()


def spend_by_campaign(campaigns: pl.DataFrame) -> Chart:
    """Return what each campaign spent beside risky pages."""
    title, levels = "Spend beside risky pages, by campaign", RISKY[::-1]
    found = campaigns.group_by("campaign_id").agg(
        *(pl.col("cost_usd").filter(pl.col("risk") == level).sum().alias(level) for level in levels),
        cost_usd=RISKY_COST,
        share=ratio(RISKY_COST, COST),
    )
    found = largest(found.filter(pl.col("cost_usd") > 0), "cost_usd", "campaign_id")
    if found.is_empty():
        return Chart(title)
    names, held = concentration(found, "campaign_id", "cost_usd")
    top = largest(found, "share", "campaign_id").row(0, named=True)
    number = counted(campaigns["campaign_id"].n_unique(), "campaign")
    reading = (
        f"{percent(held)} of the spend beside risky pages came from {len(names)} of {number}. "
        f"{top['campaign_id']} spent the largest part of its own money there: {percent(top['share'])}."
    )
    shown = found.head(MOST_CAMPAIGNS)
    names = [label(name) for name in shown["campaign_id"]]
    drawn = [bars(level, RISKS[level], {"x": shown[level].to_list(), "y": names}, "dollars") for level in levels]
    layout = lying("dollars", shown["campaign_id"])
    return Chart(title, reading, drawn, layout, height=90 + 27 * shown.height)


def spend_by_threat(pages: pl.DataFrame) -> Chart:
    """Return what was spent beside each threat."""
    title = "Spend beside each threat"
    found = pages.filter(THREATENING).group_by("threat_name", "risk").agg(COST, IMPRESSIONS)
    found = largest(found.filter(pl.col("cost_usd") > 0), "cost_usd", "threat_name")
    if found.is_empty():
        return Chart(title)
    drawn = []
    for risk in SHADES:
        of_it = found.filter(pl.col("risk") == risk)
        names = [label(name) for name in of_it["threat_name"]]
        drawn.append(bars(risk, RISKS[risk], {"x": of_it["cost_usd"].to_list(), "y": names}, "dollars"))
    top = found.row(0, named=True)
    reading = (
        f"“{top['threat_name']}” took the most, {dollars(top['cost_usd'])} for "
        f"{counted(top['impressions'], 'impression')}: {percent(top['cost_usd'] / total(found, 'cost_usd'))} "
        "of what was spent beside any threat."
    )
    layout = lying("dollars", found["threat_name"])
    return Chart(title, reading, drawn, layout, height=90 + 27 * found.height)


def gravest(signals: pl.DataFrame) -> pl.DataFrame:
    """Return the newest signals of the pages that are most dangerous: gravest risk first, then the surest."""
    newest = signals.sort("fetched_at", "url").unique(["tenant_id", "document_id"], keep="last").filter(IS_RISKY)
    order = [False, True, False]
    return newest.sort(RANK, "threat_score", "url", descending=order, nulls_last=True).head(MOST_DANGEROUS)


def listing(worst: pl.DataFrame, answers: pl.DataFrame) -> Grid:
    """Return the most dangerous pages, why they are, and which decision says so."""
    title = f"The {MOST_DANGEROUS} gravest, the surest first"
    if worst.is_empty():
        return Grid(title)
    newest = answers.rename({"label": "threat"}).sort("decided_at", "decision_id")
    key = ["tenant_id", "document_id", "threat"]
    rows = worst.join(newest.unique(key, keep="last"), on=key, how="left", maintain_order="left").with_columns(
        title=pl.coalesce(pl.col("title").replace("", None), "url"), threat_name=pl.col("threat").replace(NAMES)
    )
    floor = worst.filter(pl.col("risk") == "floor").height
    reading = (
        f"{floor} of these {counted(worst.height, 'page')} {'is' if floor == 1 else 'are'} floor content. "
        "“seamless audit” with a decision says why its page was flagged. The links lead to the pages themselves."
    )
    columns = [
        Column("risk", "Risk", "chip"),
        Column("threat_name", "Threat"),
        Column("threat_score", "Score", "decimal"),
        Column("title", "Page", "title", link="url"),
        Column("site", "Site", "name"),
        Column(DAY, "Judged", "moment"),
        Column("decision_id", "Decision", "code"),
    ]
    return Grid(title, reading, columns, rows.to_dicts())


def tone(messages: pl.DataFrame) -> Chart:
    """Return the shares of risky, offensive and hateful messages by day."""
    title = "Risky, offensive and hateful messages, by day"
    if not total(messages, "documents"):
        return Chart(title)
    shares = {
        "risky": ("var(--high)", ratio(RISKY_DOCUMENTS, JUDGED)),
        "offensive": ("var(--accent)", ratio(pl.col("offensive").sum(), DOCUMENTS)),
        "hateful": ("var(--floor)", ratio(pl.col("hateful").sum(), DOCUMENTS)),
    }
    drawn = [lines(name, colour, by_day(messages, share), "percent") for name, (colour, share) in shares.items()]
    offensive, hateful, number = messages.select(
        offensive=shares["offensive"][1], hateful=shares["hateful"][1], number=DOCUMENTS
    ).row(0)
    worst, most = largest(messages.group_by(DAY).agg(share=shares["offensive"][1]), "share", DAY).row(0)
    reading = (
        f"Of {counted(number, 'message')}, {percent(offensive)} were offensive and {percent(hateful)} hateful; "
        f"{worst:%-d %B} was the worst day, with {percent(most)} offensive."
    )
    return Chart(title, reading, drawn, {"xaxis": BY_DAY, "yaxis": {"tickformat": "~%", "rangemode": "tozero"}})


def platforms(messages: pl.DataFrame) -> Grid:
    """Return how the platforms of messages compare."""
    title = "Messages by platform"
    found = messages.group_by("place").agg(
        documents=DOCUMENTS,
        risky=ratio(RISKY_DOCUMENTS, JUDGED).fill_null(0.0),
        offensive=ratio(pl.col("offensive").sum(), DOCUMENTS),
        hateful=ratio(pl.col("hateful").sum(), DOCUMENTS),
        threat=commonest_threat(),
    )
    found = largest(found.filter(pl.col("documents") > 0), "risky", "place")
    if found.is_empty():
        return Grid(title, wide=False)
    first, last = found.row(0, named=True), found.row(-1, named=True)
    reading = f"{first['place']} carries the most risk ({percent(first['risky'])} of its messages)"
    reading += f", {last['place']} the least ({percent(last['risky'])})." if found.height > 1 else "."
    columns = [
        Column("place", "Platform", "name"),
        Column("documents", "Messages", "count"),
        Column("risky", "Risky", "bar"),
        Column("offensive", "Offensive", "percent"),
        Column("hateful", "Hateful", "percent"),
        Column("threat", "Commonest threat"),
    ]
    return Grid(title, reading, columns, found.to_dicts(), wide=False)
