"""One row is one table on one day: the number of its rows, and of rows quarantined on the way to it.

A table has a row for each day with rows or quarantined rows. An unreadable record counts for the day it arrived. The
page is ``reports/platform_health.html``, on the last 28 days; it also shows the models.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from governance import catalog
from platform_assets.conventions import table_spec
from platform_assets.operations.model_versions import SCHEMA as MODEL_VERSION
from platform_assets.operations.model_versions import TABLE as VERSIONS
from platform_assets.publishing import QUARANTINE, start
from platform_assets.reports.ab_tests import ab_tests, shadow_comparisons
from platform_assets.reports.aggregates import largest, ratio, total
from platform_assets.reports.champions import decided, registered, serving
from platform_assets.reports.page import (
    KINDS,
    Chart,
    Column,
    Grid,
    Headline,
    Page,
    Section,
    headline,
    last_days,
    publish,
    read,
    versions,
)
from platform_assets.reports.plots import BY_DAY, bars, by_day, count_axis, horizontal_layout, label, lines
from platform_assets.reports.text import count, format_value, join_words, percent, plural
from platform_assets.silver.quarantine import WRITERS
from resources.lakehouse.days import DAY
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse
from signals.tasks import TASKS

TABLE = "reports/platform_health"
DECISIONS = "silver/decisions"
TABLES = (*WRITERS, *catalog.names("gold"))
INPUTS = (*TABLES, QUARANTINE)
# A declaration is dated by the arrival of its file, so other tables are not behind it.
DATED = pl.col("table") != "bronze/seller_declarations"
LAYERS = {"bronze": "var(--second)", "silver": "var(--muted)", "gold": "var(--medium)"}
ROWS, QUARANTINED = pl.col("rows").sum(), pl.col("quarantined").sum()
REJECTING_LAYERS = ("bronze", "silver")
MAX_RULES = 15
TERMS = {
    "Bronze, silver, gold": "As received; typed, cleaned and judged; as consumers read it.",
    "Quarantined": "A row that broke a rule, kept in silver/quarantine with the rule’s name. Nothing is dropped "
    "without a trace: rows in are rows out and rows quarantined.",
    "Behind": "Days from the newest day of the table to the newest of any that is dated by what happened.",
    "Champion": "The version of a model that answers.",
    "Held-out figure": "How well it did on labelled rows that it was not trained on, by the measure that its task "
    "is judged by; below the floor it could not have been promoted.",
    "Calibration error": "How far its scores are, on the whole, from how often it was right; 0 is best.",
    "Challenger": "A version that is tried beside the champion: it answers a share of the documents, or is only asked.",
    "Shift": "The part of the answers that lie on other labels in the last days than in the first. "
    "Among few documents, some of it is chance.",
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=[VERSIONS], kinds=KINDS))
def platform_health(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Count the rows and the quarantined rows of every table."""
    write = start(context, lakehouse, TABLE, INPUTS)
    rows = health(row_counts(snapshot(lakehouse), TABLES, write.days), lakehouse.read(QUARANTINE, write.days))
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    return write.result({"page": publish(lakehouse, TABLE, page(snapshot(lakehouse)))}, rows_out=rows.height)


def row_counts(lakehouse: Lakehouse, tables: Iterable[str], days: Sequence[str]) -> pl.DataFrame:
    """Return the number of rows of tables on some days, from their logs alone."""
    counts = [pl.DataFrame(schema={DAY: pl.Date, "table": pl.String, "rows": pl.Int64})]
    for table in tables:
        if lakehouse.exists(table):
            files = pl.DataFrame(lakehouse.open(table).get_add_actions(flatten=True))
            day = pl.col(f"partition.{DAY}").cast(pl.Date)
            counts.append(files.select(day.alias(DAY), pl.lit(table).alias("table"), rows=pl.col("num_records")))
    rows = pl.concat(counts, how="vertical_relaxed").filter(pl.col(DAY).cast(pl.String).is_in(days))
    return rows.group_by(DAY, "table").agg(ROWS)


def health(counts: pl.DataFrame, quarantine: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of this table.

    Args:
        counts: see ``row_counts``.
        quarantine: silver/quarantine of the same days.
    """
    rules = largest(quarantine.group_by(DAY, "table", "rule").agg(n=pl.len().cast(pl.Int64)), "n", "rule")
    rejected = rules.group_by(DAY, "table", maintain_order=True).agg(
        quarantined=pl.col("n").sum(), top_rule=pl.col("rule").first()
    )
    rows = counts.join(rejected, on=[DAY, "table"], how="full", coalesce=True)
    return (
        rows.with_columns(pl.col("rows", "quarantined").fill_null(0), layer=pl.col("table").str.split("/").list.first())
        .filter((pl.col("rows") > 0) | (pl.col("quarantined") > 0))
        .with_columns(quarantined_share=(pl.col("quarantined") / (pl.col("rows") + pl.col("quarantined"))).round(6))
        .select(DAY, "table", "layer", "rows", "quarantined", "quarantined_share", "top_rule")
        .sort(DAY, "table")
    )


def page(lakehouse: Lakehouse) -> Page:
    """Return the page on the last days of the tables."""
    days = last_days(lakehouse, TABLES)
    # An unreadable record counts for the day it arrived, which may be after the data's newest day.
    days += [day for day in lakehouse.days(TABLE) if days and day > days[-1]]
    models = lakehouse.read(VERSIONS) if lakehouse.exists(VERSIONS) else pl.DataFrame(schema=MODEL_VERSION)
    answers = lakehouse.scan(DECISIONS, days or None).group_by(DAY, "task", "model_version", "label", "abstention")
    return build_page(
        read(lakehouse, TABLE, days),
        read(lakehouse, QUARANTINE, days, [DAY, "table", "rule"]),
        models,
        answers.agg(decisions=pl.len().cast(pl.Int64), score=pl.col("score").sum()).collect().fill_nan(None),
        shadow_comparisons(lakehouse, days),
        written(lakehouse),
        versions(lakehouse, [TABLE, *INPUTS, VERSIONS]),
        datetime.now(UTC),
    )


def written(lakehouse: Lakehouse) -> dict[str, datetime | None]:
    """Return when each table was last written; None if never."""
    times: dict[str, datetime | None] = dict.fromkeys(TABLES)
    for table in filter(lakehouse.exists, TABLES):
        times[table] = lakehouse.written(table)
    return times


def build_page(
    rows: pl.DataFrame,
    quarantine: pl.DataFrame,
    models: pl.DataFrame,
    answers: pl.DataFrame,
    comparisons: pl.DataFrame,
    last_written: Mapping[str, datetime | None],
    made_from: Mapping[str, int],
    now: datetime,
) -> Page:
    """Return the page.

    Args:
        rows: rows of this table.
        quarantine: day, table and rule of silver/quarantine, same days.
        models: operations/model_versions.
        answers: number and summed score of decisions by day, task, model_version, label and abstention.
        comparisons: see ``shadow_comparisons``.
        last_written: see ``written``.
        made_from: versions of the tables read.
        now: the time.
    """
    champions = models.filter(pl.col("is_champion"))
    champion_answers, stored, reach_rows = (
        serving(answers, champions),
        rows.filter(pl.col("rows") > 0),
        reach(rows, last_written),
    )
    received = stored.filter(pl.col("layer") == "bronze")
    newest, quarantined = stored.filter(DATED).select(pl.col(DAY).max()).item(), total(rows, "quarantined")
    age = f"{plural((now.date() - newest).days, 'day')} ago" if newest else ""
    share = quarantined / (total(received, "rows") + quarantined) if quarantined else 0.0
    return Page(
        title="Platform health",
        purpose="Whether data flows, what was quarantined, and which models answer.",
        finding=finding(total(received, "rows"), quarantined, reach_rows, champions),
        headlines=[
            Headline("Newest day of data", f"{newest:%-d %b}" if newest else format_value(None), age),
            headline("Rows received", received, ROWS, "count", rising="good"),
            Headline("Rows quarantined", count(quarantined)),
            Headline("Quarantined share", percent(share)),
            headline("Answers of champions", champion_answers, pl.col("decisions").sum(), "count", rising="good"),
            Headline("Tasks with a champion", f"{champions['task'].n_unique()} of {len(TASKS)}"),
        ],
        sections=[
            Section("Does data flow?", [flow(stored), quarantined_by_day(rows), tables(reach_rows)]),
            Section("What was quarantined, and why", [rules(quarantine)]),
            Section("Models", [registered(models), decided(champion_answers), *ab_tests(comparisons)]),
        ],
        terms=TERMS,
        days=stored[DAY].unique().sort().to_list(),
        versions=made_from,
    )


def reach(rows: pl.DataFrame, last_written: Mapping[str, datetime | None]) -> pl.DataFrame:
    """Return one row per table: its rows, its newest day, the days it is behind, and its quarantined rows."""
    with_rows = pl.col("rows") > 0
    columns = {"table": list(last_written), "written": list(last_written.values())}
    written = pl.DataFrame(columns, schema={"table": pl.String, "written": pl.Datetime("us", "UTC")})
    totals = rows.group_by("table").agg(
        ROWS,
        QUARANTINED,
        usual=pl.col("rows").filter(with_rows).median(),
        newest=pl.col(DAY).filter(with_rows).max(),
        share=ratio(QUARANTINED, ROWS + QUARANTINED),
    )
    reached = written.join(totals, on="table", how="left", maintain_order="left")
    behind = (pl.col("newest").filter(DATED).max() - pl.col("newest")).dt.total_days().clip(lower_bound=0)
    return reached.with_columns(pl.col("rows", "quarantined").fill_null(0), behind=behind)


def finding(received: int, quarantined: int, reach_rows: pl.DataFrame, champions: pl.DataFrame) -> str:
    """Return the page's finding."""
    if not received + quarantined:
        return "Nothing has arrived yet."
    share = percent(quarantined / (received + quarantined))
    text = f"{plural(received, 'row')} arrived, {count(quarantined)} ({share}) were quarantined. "
    late = reach_rows.filter(pl.col("behind").is_null() | (pl.col("behind") > 0)).height
    text += (
        f"{plural(late, 'table')} of {reach_rows.height} lack the newest day. "
        if late
        else "Every table is up to date. "
    )
    if champions.is_empty():
        return f"{text}No champion is recorded yet."
    missing = sorted(set(TASKS) - set(champions["task"]))
    return text + (f"No model answers for {join_words(missing)}." if missing else "Every task has a champion.")


def flow(rows: pl.DataFrame) -> Chart:
    """Return the chart of rows by layer and day."""
    title = "Rows by layer and day of the event"
    if not total(rows, "rows"):
        return Chart(title)
    days = rows.group_by(DAY).agg(
        *(pl.col("rows").filter(pl.col("layer") == layer).sum().alias(layer) for layer in LAYERS)
    )
    traces = [lines(layer, colour, by_day(days, pl.col(layer).sum())) for layer, colour in LAYERS.items()]
    most, least = (days.sort("bronze", DAY, descending=[down, False]).row(0, named=True) for down in (True, False))
    reading = f"{most[DAY]:%-d %B} brought the most rows, {count(most['bronze'])}"
    reading += f"; {least[DAY]:%-d %B} the fewest, {count(least['bronze'])}." if days.height > 1 else "."
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": {"rangemode": "tozero"}})


def quarantined_by_day(rows: pl.DataFrame) -> Chart:
    """Return the chart of quarantined rows by day and layer."""
    title = "Quarantined rows by day"
    if not total(rows, "quarantined"):
        return Chart(title)
    traces = [
        bars(
            f"refused by {layer}",
            LAYERS[layer],
            by_day(rows, pl.col("quarantined").filter(pl.col("layer") == layer).sum()),
        )
        for layer in REJECTING_LAYERS
    ]
    table, most = largest(rows.group_by("table").agg(QUARANTINED), "quarantined", "table").row(0)
    day, on_day = largest(rows.group_by(DAY).agg(QUARANTINED), "quarantined", DAY).row(0)
    reading = f"{table} refused the most, {count(most)} of {plural(total(rows, 'quarantined'), 'row')}; "
    reading += f"{count(on_day)} of all count for {day:%-d %B}."
    return Chart(title, reading, traces, {"xaxis": BY_DAY, "yaxis": count_axis(on_day)})


def tables(reach_rows: pl.DataFrame) -> Grid:
    """Return the table of each table's newest day and quarantined rows."""
    newest = reach_rows.filter(DATED).select(pl.col("newest").max()).item()
    if newest is None:
        return Grid("Tables")
    empty, late = (
        reach_rows.filter(condition)["table"].to_list() for condition in (pl.col("rows") == 0, pl.col("behind") > 0)
    )
    reading = (
        f"{reach_rows.height - len(empty) - len(late)} of {plural(reach_rows.height, 'table')} reach {newest:%-d %B}."
    )
    reading += f" Behind: {join_words(late)}." if late else ""
    reading += f" Without rows in these days: {join_words(empty)}." if empty else ""
    columns = [
        Column("table", "Table", "name"),
        Column("newest", "Newest day", "moment"),
        Column("behind", "Days behind", "count"),
        Column("rows", "Rows", "count"),
        Column("usual", "On a usual day", "count"),
        Column("quarantined", "Quarantined", "count"),
        Column("share", "Share", "percent"),
        Column("written", "Last written (UTC)", "moment"),
    ]
    return Grid("Tables", reading, columns, reach_rows.to_dicts())


def rules(quarantine: pl.DataFrame) -> Chart:
    """Return the chart of broken rules, by table."""
    title = "Rules that rows broke, and the table that refused them"
    broken = largest(quarantine.group_by("table", "rule").agg(n=pl.len().cast(pl.Int64)), "n", "table", "rule")
    if broken.is_empty():
        return Chart(title)
    of_rule, most = largest(broken.group_by("rule").agg(pl.col("n").sum()), "n", "rule").row(0)
    reading = f"“{of_rule}” was broken most often, by {count(most)} of {plural(total(broken, 'n'), 'row')}."
    hidden = broken.height - MAX_RULES
    reading += f" {plural(hidden, 'rarer pair')} of table and rule not shown." if hidden > 0 else ""
    top = broken.head(MAX_RULES).with_columns(
        name=pl.concat_str("rule", pl.col("table").str.split("/").list.last(), separator=" · ")
    )
    traces = []
    for layer in REJECTING_LAYERS:
        subset = top.filter(pl.col("table").str.starts_with(layer))
        names = [label(name) for name in subset["name"]]
        traces.append(bars(f"refused by {layer}", LAYERS[layer], {"x": subset["n"].to_list(), "y": names}))
    layout = horizontal_layout("count", top["name"]) | {"xaxis": count_axis(top["n"][0])}
    return Chart(title, reading, traces, layout, height=60 + 24 * top.height, wide=True)
