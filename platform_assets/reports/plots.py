"""Traces and layouts of plots. Plotly interprets some HTML, so text in a plot goes through ``label``."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from platform_assets.reports.text import Style
from resources.lakehouse.days import DAY
from signals.risks import LEVELS, UNKNOWN

# Colours of risks, gravest first: variables of the style sheet, so that charts follow light and dark mode.
RISKS = {level: f"var(--{level})" for level in reversed(LEVELS) if level != UNKNOWN}
# Longer axis labels are cut.
MAX_LABEL = 36
# An axis of smaller counts has a tick at each unit.
MAX_UNIT_TICKS = 8
NUMBER_FORMATS = {"count": ",d", "percent": ".1%", "dollars": "$,.2f", "decimal": ",.2f"}
BY_DAY = {"type": "category", "showgrid": False}


def by_day(rows: pl.DataFrame, value: pl.Expr) -> dict[str, list[Any]]:
    """Return a trace's ``x`` (days) and ``y`` (an aggregate of each day's rows)."""
    daily = rows.group_by(DAY).agg(value=value).sort(DAY)
    return {"x": daily[DAY].dt.strftime("%-d %b").to_list(), "y": daily["value"].to_list()}


def bars(name: object, colour: str, xy: Mapping[str, list[Any]], style: Style = "count") -> dict[str, Any]:
    """Return a trace of bars: vertical if ``x`` holds names or days."""
    upright = not xy["x"] or isinstance(xy["x"][0], str)
    names, values = ("x", "y") if upright else ("y", "x")
    hover = f"%{{{names}}}: %{{{values}:{NUMBER_FORMATS[style]}}}<extra>{label(name)}</extra>"
    line = {"width": 1, "color": "var(--card)"}
    return {
        "type": "bar",
        "name": label(name),
        "orientation": "v" if upright else "h",
        "marker": {"color": colour, "line": line},
        "hovertemplate": hover,
        **xy,
    }


def lines(name: object, colour: str, xy: Mapping[str, list[Any]], style: Style = "count") -> dict[str, Any]:
    """Return a trace of a line with markers."""
    hover = f"%{{x}}: %{{y:{NUMBER_FORMATS[style]}}}<extra>{label(name)}</extra>"
    drawing = {"line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 6}}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(name),
        "hovertemplate": hover,
        **drawing,
        **xy,
    }


def heatmap(
    across: Sequence[object], down: Sequence[object], values: Sequence[Sequence[float | None]]
) -> dict[str, Any]:
    """Return a trace of a heat map whose cells show their values."""
    return {
        "type": "heatmap",
        "x": [label(name) for name in across],
        "y": [label(name) for name in down],
        "z": values,
        "texttemplate": "%{z:,.0f}",
        "colorscale": [[0, "var(--accent-soft)"], [1, "var(--accent)"]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "%{y}, %{x}: %{z:,.0f}<extra></extra>",
    }


def heatmap_layout(across: Sequence[object], down: Sequence[object], angle: int = 0) -> dict[str, Any]:
    """Return the layout of a heat map."""
    top = category_axis(across) | {"side": "top", "tickangle": angle}
    return {"xaxis": top, "yaxis": category_axis(down) | {"autorange": "reversed"}}


def horizontal_layout(style: Style, names: Iterable[object]) -> dict[str, Any]:
    """Return the layout of horizontal bars, labelled from top to bottom."""
    values = {"tickformat": "~%" if style == "percent" else NUMBER_FORMATS[style], "rangemode": "tozero"}
    return {"xaxis": values, "yaxis": category_axis(names) | {"autorange": "reversed"}}


def count_axis(most: float) -> dict[str, Any]:
    """Return an axis of whole numbers up to ``most``."""
    return {
        "rangemode": "tozero",
        **({"dtick": 1} if most < MAX_UNIT_TICKS else {"tickformat": NUMBER_FORMATS["count"]}),
    }


def category_axis(names: Iterable[object]) -> dict[str, Any]:
    """Return an axis of names in this order, each cut to ``MAX_LABEL`` characters."""
    labels = [label(name) for name in names]
    ticks = [
        html.escape(name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 1].rstrip()}…")
        for name in map(html.unescape, labels)
    ]
    order = {"type": "category", "categoryorder": "array", "categoryarray": labels}
    return order | {"tickmode": "array", "tickvals": labels, "ticktext": ticks, "showgrid": False}


def label(text: object) -> str:
    """Return text escaped for Plotly."""
    return html.escape(UNKNOWN if text is None else str(text))
