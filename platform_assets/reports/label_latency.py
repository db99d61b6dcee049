"""The section on label latency: how long labels wait for a model that has seen them, and the cost of the gap."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from platform_assets.operations.label_latency import MAX_SECONDS, SCHEMA, TABLE, newest
from platform_assets.reports.aggregates import total
from platform_assets.reports.page import Chart, Column, Grid, Section
from platform_assets.reports.plots import horizontal_layout, label
from platform_assets.reports.text import dollars, plural
from resources.lakehouse.tables import Lakehouse

# Number of newest champions in the chart.
MAX_CHAMPIONS = 24
MARKS = {
    "seconds_last": ("the label that landed last", "var(--accent)"),
    "seconds_p50": ("half of the labels", "var(--second)"),
    "seconds_p95": ("95 of 100 labels", "var(--high)"),
}
UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
TICKS = (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)


def staleness(lakehouse: Lakehouse) -> Section:
    """Return the section on the gap between labels and the models that have seen them."""
    rows = lakehouse.read(TABLE) if lakehouse.exists(TABLE) else pl.DataFrame(schema=SCHEMA)
    return Section("How far the models are behind their labels", [waits(rows), gaps(rows)])


def waits(rows: pl.DataFrame) -> Chart:
    """Return the chart of how long each champion's labels waited for its first decision, newest champions first.

    Args:
        rows: operations/label_latency.
    """
    title = "From a label’s landing to the first decision by a champion that has seen it"
    learnt = rows.drop_nulls(["before_version", "decided_at", "seconds_last"]).sort("decided_at", descending=True)
    if learnt.is_empty():
        return Chart(title)
    late = newest(rows).filter(pl.col("seconds_last") > MAX_SECONDS)["task"].to_list()
    last = learnt.row(0, named=True)
    reading = (
        f"{last['task']} has learnt last, from {plural(last['labels'], 'label')}: {lasting(last['seconds_last'])} "
        f"after the last of them landed, {lasting(last['seconds_p50'])} after half of them had. "
    )
    reading += f"Later than {MAX_SECONDS} s: {', '.join(late)}." if late else f"None took over {MAX_SECONDS} s."
    drawn_rows = learnt.head(MAX_CHAMPIONS)
    names = [f"{task} {version}" for task, version in drawn_rows.select("task", "model_version").iter_rows()]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": label(name),
            "x": drawn_rows[column].to_list(),
            "y": [label(name) for name in names],
            "text": [lasting(value) for value in drawn_rows[column]],
            "hovertemplate": f"%{{y}}: %{{text}}<extra>{label(name)}</extra>",
            "marker": {"color": colour, "size": 10},
        }
        for column, (name, colour) in MARKS.items()
    ]
    axis = {"type": "log", "tickvals": TICKS, "ticktext": [lasting(tick) for tick in TICKS]}
    limit = {"type": "line", "x0": MAX_SECONDS, "x1": MAX_SECONDS, "yref": "paper", "y0": 0, "y1": 1}
    layout = horizontal_layout("count", names) | {
        "xaxis": axis,
        "shapes": [{**limit, "line": {"color": "var(--muted)", "dash": "dot"}}],
    }
    return Chart(title, reading, traces, layout, height=90 + 26 * len(names), wide=True)


def gaps(rows: pl.DataFrame) -> Grid:
    """Return the table of each task's newest champion, the cost of its gap, and the labels that still wait.

    Args:
        rows: operations/label_latency.
    """
    title = "What the gap costs, and what still waits"
    if rows.is_empty():
        return Grid(title)
    open_rows = rows.filter(pl.col("decided_at").is_null())
    waiting = open_rows.group_by("task").agg(waiting=pl.col("labels").sum(), longest=pl.col("seconds_max").max())
    champions = rows.drop_nulls("model_version").sort("model_version").unique("task", keep="last")
    tasks = champions.join(waiting, on="task", how="full", coalesce=True).sort("task")
    cost = rows.select(pl.col("compared", "changed", "impressions", "spend_usd").sum()).row(0, named=True)
    reading = (
        f"Newer champions say otherwise of {plural(cost['changed'], 'document')}, of {cost['compared']:,} that could "
        f"be compared; {plural(cost['impressions'], 'impression')} and {dollars(cost['spend_usd'])} ran on them "
        f"before. {plural(total(tasks, 'waiting'), 'label')} still wait."
    )
    columns = [
        Column("task", "Task", "name"),
        Column("model_version", "Champion", "count"),
        Column("labels", "Labels learnt", "count"),
        Column("last", "Last waited"),
        Column("most", "First waited"),
        Column("compared", "Compared", "count"),
        Column("changed", "Answers changed", "count"),
        Column("impressions", "Impressions in gap", "count"),
        Column("spend_usd", "Spend in gap", "dollars"),
        Column("waiting", "Labels waiting", "count"),
        Column("longest", "Longest"),
    ]
    return Grid(title, reading, columns, [_formatted(row) for row in tasks.iter_rows(named=True)])


def _formatted(row: Mapping[str, Any]) -> dict[str, Any]:
    is_decided = row["decided_at"] is not None
    seconds = {"last": row["seconds_last"] if is_decided else None, "most": row["seconds_max"] if is_decided else None}
    texts = {name: value if value is None else lasting(value) for name, value in seconds.items()}
    longest = row["longest"] if row["longest"] is None else lasting(row["longest"])
    return {**row, **texts, "longest": longest}


def lasting(seconds: float) -> str:
    """Return ``34 s``, ``5 min``, ``3.2 h`` or ``12 d``."""
    unit, size = next(((unit, size) for unit, size in reversed(UNITS.items()) if seconds >= size), ("s", 1))
    value = seconds / size
    return f"{value:.1f}".removesuffix(".0") + f"\u00a0{unit}" if value < 10 else f"{value:.0f}\u00a0{unit}"
