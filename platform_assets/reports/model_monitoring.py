"""One row is one task on one day, with its drift, calibration, coverage and label delay.

Its page is ``reports/model_monitoring.html``, on the last 28 days.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.operations.drift import MEASURES, MIN_DRIFTED, MIN_ROWS, WINDOWS
from platform_assets.operations.drift import TABLE as DRIFT
from platform_assets.operations.label_latency import TABLE as STALENESS
from platform_assets.operations.model_versions import TABLE as VERSIONS
from platform_assets.publishing import start
from platform_assets.reports.aggregates import ratio
from platform_assets.reports.coverage import coverage, with_curves
from platform_assets.reports.label_latency import staleness
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
from platform_assets.reports.plots import BY_DAY, by_day, lines
from platform_assets.reports.text import count, format_value, join_words, percent, plural
from resources.lakehouse.days import DAY
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse
from signals.models.metrics import calibration_error
from signals.tasks import TASKS

TABLE = "reports/model_monitoring"
INPUTS = (DRIFT,)
COUNT_COLUMNS = ("answers", "reliability")
COLOURS = ("accent", "high", "good", "floor", "second", "medium", "low", "ink")
HOUR = 3_600
# Minimum number of documents of a point of the reliability curve.
MIN_IN_BIN = 20
MEASURE_TEXTS = {
    "input": ("texts asked, beside those that trained", "texts"),
    "category": ("labels given, beside the held-out rows", "labels"),
    "prediction": ("labels and scores, beside earlier days", "labels and scores"),
}
TERMS = {
    "Window": "The documents of one day. Fewer than "
    f"{MIN_ROWS} are not measured; a window is measured against the version that answered it.",
    "Input drift": "How far the mean of the texts’ vectors lies from that of the texts that trained the model, "
    "in units of their spread.",
    "Category drift": "Jensen-Shannon distance of the labels given from those given on the held-out rows.",
    "Prediction drift": "The same distance, of labels and scores, from those of the model’s earlier windows.",
    "Limit": "What samples so small differ by at most in 99 of 100 cases without any drift, or the least that matters. "
    "Plots show how many times its limit a measure is: above 1 is drift.",
    "Drifting": f"At least {MIN_DRIFTED} of the last {WINDOWS} days that are over have drifted, the latest among them: "
    "new labels then start a training though they are few.",
    "Calibration error": "How far a model’s scores are, on the whole, from how often it is right; 0 is best. Of labels "
    "that it was not trained on.",
    "Label delay": "From when a document was sent or fetched to when a reviewer labelled it.",
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=[STALENESS, VERSIONS], kinds=KINDS))
def model_monitoring(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Copy the measures of every task, and publish the page."""
    write = start(context, lakehouse, TABLE, INPUTS)
    rows = with_curves(lakehouse.read(DRIFT, write.days).drop(COUNT_COLUMNS), lakehouse).sort(DAY, "task")
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    return write.result({"page": publish(lakehouse, TABLE, page(snapshot(lakehouse)))}, rows_out=rows.height)


def page(lakehouse: Lakehouse) -> Page:
    """Return the page on the last days of the table."""
    days = last_days(lakehouse, INPUTS)
    made_from = versions(lakehouse, [TABLE, *INPUTS, STALENESS, VERSIONS])
    rows = with_curves(read(lakehouse, DRIFT, days), lakehouse)
    return build_page(rows, staleness(lakehouse), made_from, datetime.now(UTC).date())


def build_page(rows: pl.DataFrame, latency: Section, made_from: Mapping[str, int], today: date) -> Page:
    """Return the page.

    Args:
        rows: operations/drift of the page's days, see ``with_curves``.
        latency: the section on label latency.
        made_from: versions of the tables read.
        today: the current day, which is not over.
    """
    rows = rows.sort(DAY, "task")
    states = [_state(task, task_rows, today) for (task,), task_rows in rows.group_by("task", maintain_order=True)]
    labelled, measured = rows.filter(pl.col("labelled") > 0), rows.drop_nulls("drifted")
    right = ratio((pl.col("accuracy") * pl.col("labelled")).sum(), pl.col("labelled").sum())
    return Page(
        title="Model monitoring",
        purpose="Whether models are asked what taught them, whether their scores hold, and when labels tell.",
        finding=finding(states, measured),
        headlines=[
            headline("Answers, all tasks", rows, pl.col("documents").sum(), "count"),
            Headline("Windows measured", f"{measured.height} of {rows.height}"),
            headline("Windows that drifted", measured, pl.col("drifted").mean(), "percent", rising="bad"),
            Headline("Tasks that drift", f"{sum(state['drifts'] for state in states)} of {len(states)}"),
            headline("Labels that came", rows, pl.col("labels").sum(), "count", rising="good"),
            headline("Answers right, of those labelled", labelled, right, "percent", rising="good"),
        ],
        sections=[
            Section(
                "Are models asked what taught them?", [*(drifts(rows, name) for name in MEASURES), newest(rows, states)]
            ),
            Section(
                "Do they know when they are right?",
                [reliability(rows), gaps(labelled), calibration(rows), coverage(rows)],
            ),
            Section("When do labels tell?", [delays(rows)]),
            latency,
        ],
        terms=TERMS,
        days=rows[DAY].unique().sort().to_list(),
        versions=made_from,
    )


def _state(task: str, rows: pl.DataFrame, today: date) -> dict[str, Any]:
    """Return the drift state of a task's newest version over its last complete windows; ``rows`` are sorted by day."""
    version = rows["model_version"].max()
    own = rows.filter(pl.col("model_version") == version, pl.col(DAY) < today, pl.col("drifted").is_not_null())
    last = own.tail(WINDOWS)
    drifted = int(last["drifted"].sum())
    return {
        "task": task,
        "version": version,
        "windows": last.height,
        "drifted": drifted,
        "drifts": drifted >= MIN_DRIFTED and last["drifted"][-1],
        **rows.select(DAY, "documents", "finding").row(-1, named=True),
    }


def finding(states: Sequence[Mapping[str, Any]], measured: pl.DataFrame) -> str:
    """Return the page's finding."""
    if measured.is_empty():
        needed = f"{MIN_ROWS} documents of a day, and a model that knows its rows"
        return f"No window could be measured yet: that takes {needed}."
    drifting = [state["task"] for state in states if state["drifts"]]
    over = {name: int((measured[f"{name}_drift"] > measured[f"{name}_limit"]).sum()) for name in MEASURES}
    windows = int(measured["drifted"].sum())
    text = f"{windows} of {plural(measured.height, 'window')} drifted. "
    if windows:
        most = max(over, key=lambda name: over[name])
        text += f"Most often {most} did, in {count(over[most])}. "
    if not drifting:
        return f"{text}No task drifts: none has {MIN_DRIFTED} such days among its last {WINDOWS}, the latest included."
    verb, pronoun = ("drifts", "it") if len(drifting) == 1 else ("drift", "them")
    return f"{text}{join_words(drifting)} {verb}: the next new labels train {pronoun} again."


def drifts(rows: pl.DataFrame, name: str) -> Chart:
    """Return the chart of a measure as a multiple of its limit, by task and day."""
    title, things = MEASURE_TEXTS[name]
    times = pl.col(f"{name}_drift") / pl.col(f"{name}_limit")
    measured = rows.with_columns(times=times).drop_nulls("times")
    title = f"{name.capitalize()} drift: {title}"
    if measured.is_empty():
        return Chart(title)
    task, day, most = measured.sort("times", "task", descending=[True, False]).select("task", DAY, "times").row(0)
    over = measured.filter(pl.col("times") > 1)
    reading = f"{task} was the furthest off, on {day:%-d %B}: its {things} were at {most:.2f} times the limit. "
    reading += f"{over.height} of {plural(measured.height, 'window')} passed it"
    reading += f", of {join_words(over['task'].unique().sort())}." if over.height else "."
    layout = _day_layout(measured, "times its limit") | {"shapes": [_reference_line(0, 1, 1, 1, "paper")]}
    traces = _task_lines(measured, pl.col("times").mean(), "decimal")
    return Chart(title, reading, traces, layout, wide=name == MEASURES[-1])


def newest(rows: pl.DataFrame, states: Sequence[Mapping[str, Any]]) -> Grid:
    """Return the table of each task's current state."""
    if not states:
        return Grid("Where each task stands")
    measured = [state for state in states if state["windows"]]
    reading = f"No day that is over could be measured of {join_words(s['task'] for s in states if not s['windows'])}."
    if len(measured) == len(states):
        reading = "Every task could be measured."
    times = pl.max_horizontal(*(pl.col(f"{name}_drift") / pl.col(f"{name}_limit") for name in MEASURES))
    by_task = {task: by_day(task_rows, times.mean())["y"] for (task,), task_rows in rows.sort(DAY).group_by("task")}
    columns = [
        Column("task", "Task", "name"),
        Column("version", "Version", "count"),
        Column("drifted", "Days with drift", "count"),
        Column("windows", f"Of the last {WINDOWS} measured", "count"),
        Column("line", "Furthest measure by day", "line"),
        Column(DAY, "Newest day", "moment"),
        Column("documents", "Documents", "count"),
        Column("finding", "What was measured, each of its limit", "title"),
    ]
    return Grid("Where each task stands", reading, columns, [{**s, "line": by_task[s["task"]]} for s in states])


def reliability(rows: pl.DataFrame) -> Chart:
    """Return the reliability curve of each task."""
    title = "Right answers by confidence"
    bins = _pooled(rows).filter(pl.col("rows") >= MIN_IN_BIN)
    if bins.is_empty():
        return Chart(title)
    bins = bins.with_columns(sure=pl.col("confidence") / pl.col("rows"), share=pl.col("right") / pl.col("rows"))
    bins = bins.with_columns(off=pl.col("share") - pl.col("sure"))
    task, sure, share = bins.sort(pl.col("off").abs(), descending=True).select("task", "sure", "share").row(0)
    reading = f"On the dotted line a score is how often it is right. {task} is the furthest from it: where it was "
    reading += f"{percent(sure)} sure, {percent(share)} were right. Points of fewer than {MIN_IN_BIN} are left out."
    traces = [
        lines(name, _colour(name), {"x": points["sure"].round(2).to_list(), "y": points["share"].to_list()}, "percent")
        for (name,), points in bins.sort("task", "sure").group_by("task", maintain_order=True)
    ]
    axis = {"tickformat": "~%", "range": [0, 1.03]}
    layout = {
        "xaxis": axis | {"title": {"text": "confidence"}},
        "yaxis": axis | {"title": {"text": "right"}},
        "shapes": [_reference_line(0, 0, 1, 1, "x")],
    }
    return Chart(title, reading, traces, layout, height=380)


def gaps(rows: pl.DataFrame) -> Chart:
    """Return the chart of confidence minus accuracy, by task and day of the label."""
    title = "Confidence above right answers, by day of the label"
    if rows.is_empty():
        return Chart(title)
    weighted_gap = (pl.col("confidence") - pl.col("accuracy")) * pl.col("labelled")
    gap = ratio(weighted_gap.sum(), pl.col("labelled").sum())
    by_task = rows.group_by("task").agg(gap=gap, labelled=pl.col("labelled").sum())
    task, most, labelled = by_task.sort(pl.col("gap").abs(), "task", descending=[True, False]).row(0)
    how = "too sure" if most > 0 else "not sure enough"
    reading = f"{task} is the most {how} over all days, by {percent(abs(most))} on {plural(labelled, 'document')}. "
    reading += "A day has few labels: single points are mostly chance."
    layout = _day_layout(rows, "") | {"yaxis": {"tickformat": "+~%"}, "shapes": [_reference_line(0, 0, 1, 0, "paper")]}
    return Chart(title, reading, _task_lines(rows, gap, "percent"), layout, height=380)


def calibration(rows: pl.DataFrame) -> Grid:
    """Return the table of confidence and accuracy of each task, on labels that did not train its model."""
    title = "Calibration, over all days shown"
    bins = _pooled(rows)
    if bins["rows"].sum() == 0:
        return Grid(title)
    tasks = []
    for (task,), task_bins in bins.filter(pl.col("rows") > 0).group_by("task", maintain_order=True):
        sums = task_bins.select("rows", "confidence", "right").to_numpy()
        labelled, confidence, right = sums.sum(axis=0)
        shares = {"confidence": confidence / labelled, "accuracy": right / labelled}
        tasks.append({"task": task, "labelled": labelled, **shares, "error": calibration_error(sums)})
    enough = [row for row in tasks if row["labelled"] >= MIN_ROWS]
    reading = f"No task has {MIN_ROWS} such labels: the errors are mostly chance."
    if enough:
        worst = max(enough, key=lambda row: row["error"])
        off = format_value(worst["error"], "decimal")
        reading = f"{worst['task']} is the least calibrated of those with {MIN_ROWS} labels: {off} off."
    columns = [
        Column("task", "Task", "name"),
        Column("labelled", "Labels that it was not trained on", "count"),
        Column("confidence", "Mean confidence", "percent"),
        Column("accuracy", "Right", "percent"),
        Column("error", "Calibration error", "decimal"),
    ]
    return Grid(title, reading, columns, tasks)


def delays(rows: pl.DataFrame) -> Chart:
    """Return the chart of the median label delay, by task and day."""
    title = "From a document to its label, the median by day of the label"
    labelled = rows.drop_nulls("label_delay_p50")
    if labelled.is_empty():
        return Chart(title)
    late = labelled.sort("label_delay_p95", "task", descending=[True, False]).row(0, named=True)
    usual = labelled.select(pl.col("label_delay_p50").median()).item() / HOUR
    reading = f"On a usual day half of the labels come within {format_value(usual, 'decimal')} hours. The slowest "
    reading += f"were those of {late['task']} on {late[DAY]:%-d %B}: one in twenty took "
    reading += f"{format_value(late['label_delay_p95'] / HOUR, 'decimal')} hours or more."
    traces = _task_lines(labelled, pl.col("label_delay_p50").mean() / HOUR, "decimal")
    return Chart(title, reading, traces, _day_layout(labelled, "hours"), wide=True)


def _pooled(rows: pl.DataFrame) -> pl.DataFrame:
    """Return task and bin with the sums of ``rows``, ``confidence`` and ``right`` over all days."""
    bins = rows.select("task", "reliability").with_columns(bin=pl.int_ranges(pl.col("reliability").list.len()))
    sums = bins.explode("reliability", "bin").unnest("reliability").group_by("task", "bin")
    return sums.agg(pl.col("rows", "confidence", "right").sum()).sort("task", "bin")


def _task_lines(rows: pl.DataFrame, value: pl.Expr, style: Any) -> list[dict[str, Any]]:
    """Return one line per task over the days."""
    parts = rows.sort("task", DAY).group_by("task", maintain_order=True)
    return [lines(task, _colour(task), by_day(task_rows, value), style) for (task,), task_rows in parts]


def _day_layout(rows: pl.DataFrame, unit: str) -> dict[str, Any]:
    """Return the layout of lines over days; a line may lack points on some days."""
    days = rows[DAY].unique().sort().dt.strftime("%-d %b").to_list()
    axis = {**BY_DAY, "categoryorder": "array", "categoryarray": days}
    return {"xaxis": axis, "yaxis": {"rangemode": "tozero", "title": {"text": unit}}}


def _reference_line(x0: float, y0: float, x1: float, y1: float, across: str) -> dict[str, Any]:
    """Return a dotted reference line; ``across`` is the reference of its ``x``."""
    drawing = {"color": "var(--muted)", "width": 1.5, "dash": "dot"}
    return {"type": "line", "xref": across, "x0": x0, "x1": x1, "y0": y0, "y1": y1, "line": drawing, "layer": "below"}


def _colour(task: object) -> str:
    index = list(TASKS).index(str(task)) if task in TASKS else len(TASKS)
    return f"var(--{COLOURS[index % len(COLOURS)]})"
