"""A report page: what it says, as plain data, and its rendering as one HTML file that needs nothing else.

A block (chart or grid) that is given no data says so. Text from tables is escaped where the page is rendered;
what Plotly draws, which reads a little HTML of its own, goes through ``label``.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import dagster as dg
import polars as pl

from governance.html import html_page
from resources.lakehouse.days import DAY
from resources.lakehouse.files import write_file
from resources.lakehouse.tables import Lakehouse
from signals.documents.urls import WEB
from signals.risks import LEVELS, UNKNOWN

FOLDER = Path(__file__).parent
# A page looks back this many days from the newest day of its data.
WINDOW = timedelta(days=28)
# Colours of risks, gravest first: variables of the style sheet, for a chart follows the reader's light or dark mode.
RISKS = {level: f"var(--{level})" for level in reversed(LEVELS) if level != UNKNOWN}
KINDS = ("delta", "polars", "plotly")
NOTHING = "–"
# A longer name on an axis is cut.
LONGEST = 36
# So few things are counted on an axis one by one.
FEW = 8

Shown = Literal[
    "text", "title", "name", "count", "percent", "dollars", "decimal", "moment", "chip", "bar", "line", "code"
]


@dataclass(frozen=True)
class Headline:
    """A figure at the top of a page, how it has moved, and whether that is ``good`` or ``bad``."""

    label: str
    value: str
    change: str = ""
    tone: str = ""
    line: str = ""


@dataclass(frozen=True)
class Chart:
    """A plot (Plotly's traces and layout), and one sentence that says what it shows."""

    title: str
    reading: str = ""
    data: Sequence[Mapping[str, Any]] = ()
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 300
    wide: bool = False
    kind: ClassVar[str] = "chart"

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Name and colour of each trace, if there are several."""
        marks = [(html.unescape(trace.get("name", "")), trace.get("marker", {}).get("color")) for trace in self.data]
        return marks if len(marks) > 1 else []

    @property
    def figure(self) -> dict[str, Any]:
        """The plot as Plotly.js takes it."""
        axes = {name: {**AXIS, **self.layout.get(name, {})} for name in ("xaxis", "yaxis")}
        return {"data": self.data, "layout": {**LAYOUT, "height": self.height, **self.layout, **axes}}


@dataclass(frozen=True)
class Column:
    """A column of a grid: the key in its rows, its head, how it is shown, and the key of its links."""

    name: str
    head: str
    shown: Shown = "text"
    link: str = ""


@dataclass(frozen=True)
class Grid:
    """A table, and one sentence that says what it shows."""

    title: str
    reading: str = ""
    columns: Sequence[Column] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    wide: bool = True
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True)
class Section:
    """Blocks that answer one question."""

    title: str
    blocks: Sequence[Chart | Grid]


@dataclass(frozen=True)
class Page:
    """A report: what it found, its figures, its sections, the words it uses, and what it was made from."""

    title: str
    purpose: str
    finding: str
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    terms: Mapping[str, str]
    days: Sequence[date]
    versions: Mapping[str, int]


FORMS = {"count": ",d", "percent": ".1%", "dollars": "$,.2f", "decimal": ",.2f"}
AXIS = {
    "automargin": True,
    "fixedrange": True,
    "gridcolor": "var(--line)",
    "linecolor": "var(--line)",
    "separatethousands": True,
    "zerolinecolor": "var(--line)",
    "title": {"standoff": 12},
}
LAYOUT = {
    "autosize": True,
    "bargap": 0.28,
    "barmode": "stack",
    "dragmode": False,
    "font": {"family": "var(--font)", "size": 12, "color": "var(--ink)"},
    "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
    "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "showlegend": False,
}
BY_DAY = {"type": "category", "showgrid": False}


def render(page: Page, made_at: datetime) -> bytes:
    """Return a page as one HTML file, with its styles, its data and Plotly inside."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    said = {"page": page, "compared": compared(page.days), "made_at": made_at}
    body = Markup(_template().render(said))  # noqa: S704 - escaped by the template
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return html_page(f"{page.title} – Seamless", body, style, [get_plotlyjs(), script]).encode()


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("platform_assets.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": show, "web": web, "sparkline": sparkline}
    return environment.get_template("page.html")


def publish(lakehouse: Lakehouse, table: str, page: Page) -> dg.MetadataValue:
    """Write a table's page beside it, and return where it is, for the materialisation."""
    where = write_file(lakehouse, f"{table}.html", render(page, datetime.now(UTC)))
    return dg.MetadataValue.url(where) if "://" in where else dg.MetadataValue.path(where)


def last_days(lakehouse: Lakehouse, tables: Iterable[str]) -> list[str]:
    """Return the days that a page on these tables covers: those with rows up to the newest, oldest first."""
    found = sorted({date.fromisoformat(day) for table in tables for day in lakehouse.days(table)})
    return [day.isoformat() for day in found if day > found[-1] - WINDOW]


def read(lakehouse: Lakehouse, table: str, days: Sequence[str], columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return a table's rows of some days; without NaN, which JSON does not know."""
    rows = lakehouse.scan(table, days or None)
    rows = rows.select(columns) if columns else rows
    return rows.collect().fill_nan(None)


def versions(lakehouse: Lakehouse, tables: Iterable[str]) -> dict[str, int]:
    """Return the versions of the tables that exist."""
    return {table: lakehouse.version(table) for table in tables if lakehouse.exists(table)}


def total(rows: pl.DataFrame, name: str) -> Any:
    """Return the sum of a column."""
    return rows.select(pl.col(name).sum()).item()


def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Return part / whole, null where there is no whole."""
    return pl.when(whole > 0).then(part / whole)


def headline(
    name: str, rows: pl.DataFrame, value: pl.Expr, shown: Shown, *, rising: Literal["good", "bad", ""] = ""
) -> Headline:
    """Return a figure over all rows, and its change from the first half of their days to the last.

    Args:
        name: what it is.
        rows: rows with ``event_date``.
        value: aggregate over rows.
        shown: how it is shown; a percent changes by points, all else in relation to what it was.
        rising: what it means that it rises.
    """
    parts = halves(rows[DAY])
    first, last = (rows.filter(pl.col(DAY).is_in(days.implode())).select(value).item() for days in parts)
    line = rows.group_by(DAY).agg(value=value).sort(DAY)["value"].to_list()
    change, tone = "", ""
    if len(parts[0]) and first is not None and last is not None and (shown == "percent" or first):
        moved = last - first if shown == "percent" else last / first - 1
        size = f"{abs(moved) * 100:.1f} points" if shown == "percent" else percent(abs(moved))
        change = f"{'▲' if moved > 0 else '▼'} {size}" if round(moved, 3) else "unchanged"
        falling = {"good": "bad", "bad": "good", "": ""}[rising]
        tone = "" if change == "unchanged" else rising if moved > 0 else falling
    return Headline(name, show(rows.select(value).item(), shown), change, tone, sparkline(line))


def halves(days: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the first and the last half of days; a middle day is in neither, and one day alone has no halves."""
    known = days.unique().sort()
    return known.head(len(known) // 2), known.tail(len(known) // 2)


def compared(days: Sequence[date]) -> str:
    """Return what the changes of a page's headlines compare."""
    if len(days) == 1:
        return "One day so far: there is nothing to compare it with."
    return "Changes compare the later half of these days with the earlier half." if days else ""


def by_day(rows: pl.DataFrame, value: pl.Expr) -> dict[str, list[Any]]:
    """Return a trace's ``x`` (days) and ``y`` (an aggregate of each day's rows)."""
    found = rows.group_by(DAY).agg(value=value).sort(DAY)
    return {"x": found[DAY].dt.strftime("%-d %b").to_list(), "y": found["value"].to_list()}


def bars(name: object, colour: str, xy: Mapping[str, list[Any]], shown: Shown = "count") -> dict[str, Any]:
    """Return a trace of bars, upright if ``x`` are names or days."""
    upright = not xy["x"] or isinstance(xy["x"][0], str)
    which, much = ("x", "y") if upright else ("y", "x")
    hover = f"%{{{which}}}: %{{{much}:{FORMS[shown]}}}<extra>{label(name)}</extra>"
    edge = {"width": 1, "color": "var(--card)"}
    return {
        "type": "bar",
        "name": label(name),
        "orientation": "v" if upright else "h",
        "marker": {"color": colour, "line": edge},
        "hovertemplate": hover,
        **xy,
    }


def lines(name: object, colour: str, xy: Mapping[str, list[Any]], shown: Shown = "count") -> dict[str, Any]:
    """Return a trace of a line through points."""
    hover = f"%{{x}}: %{{y:{FORMS[shown]}}}<extra>{label(name)}</extra>"
    look = {"line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 6}}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(name),
        "hovertemplate": hover,
        **look,
        **xy,
    }


def heat(across: Sequence[object], down: Sequence[object], numbers: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Return a trace of cells that are darker where there is more, and say how much."""
    return {
        "type": "heatmap",
        "x": [label(name) for name in across],
        "y": [label(name) for name in down],
        "z": numbers,
        "texttemplate": "%{z:,.0f}",
        "colorscale": [[0, "var(--accent-soft)"], [1, "var(--accent)"]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "%{y}, %{x}: %{z:,.0f}<extra></extra>",
    }


def crossing(across: Sequence[object], down: Sequence[object], angle: int = 0) -> dict[str, Any]:
    """Return the layout of a heat map."""
    over = named(across) | {"side": "top", "tickangle": angle}
    return {"xaxis": over, "yaxis": named(down) | {"autorange": "reversed"}}


def lying(shown: Shown, names: Iterable[object]) -> dict[str, Any]:
    """Return the layout of bars that lie, named from top to bottom."""
    along = {"tickformat": "~%" if shown == "percent" else FORMS[shown], "rangemode": "tozero"}
    return {"xaxis": along, "yaxis": named(names) | {"autorange": "reversed"}}


def whole(most: float) -> dict[str, Any]:
    """Return an axis of numbers that are whole, up to ``most``."""
    return {"rangemode": "tozero", **({"dtick": 1} if most < FEW else {"tickformat": FORMS["count"]})}


def named(names: Iterable[object]) -> dict[str, Any]:
    """Return an axis of names in this order, each cut to a length that leaves room for the plot."""
    known = [label(name) for name in names]
    cut = [
        html.escape(name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…")
        for name in map(html.unescape, known)
    ]
    order = {"type": "category", "categoryorder": "array", "categoryarray": known}
    return order | {"tickmode": "array", "tickvals": known, "ticktext": cut, "showgrid": False}


def label(text: object) -> str:
    """Return text that Plotly shows as it is."""
    return html.escape(UNKNOWN if text is None else str(text))


def sparkline(values: Sequence[float | None]) -> str:
    """Return the points of a line through values, in a box of 100 by 24."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    step = 100 / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{22 - 20 * (v - low) / span:.1f}" for i, v in enumerate(values) if v is not None)


def show(value: Any, shown: Shown = "text") -> str:
    """Return a value as a person reads it."""
    if value is None:
        return NOTHING
    forms = {
        "count": lambda: count(value),
        "percent": lambda: percent(value),
        "bar": lambda: percent(value),
        "dollars": lambda: dollars(value),
        "decimal": lambda: f"{value:,.2f}",
        "moment": lambda: f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value),
    }
    return forms.get(shown, lambda: str(value))()


def count(value: float) -> str:
    """Return 1,234."""
    return f"{round(value):,}"


def percent(value: float) -> str:
    """Return 12.3 %; two places where one would say almost nothing."""
    return f"{value * 100:.{2 if 0 < abs(value) < 0.00995 else 1}f}\u00a0%"


def dollars(value: float) -> str:
    """Return $1,234.56."""
    return f"{'−' if value < 0 else ''}${abs(value):,.2f}"


def counted(number: float, thing: str) -> str:
    """Return ``1 page`` or ``1,234 pages``."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


def listed(names: Iterable[object]) -> str:
    """Return ``a, b and c``."""
    words = [UNKNOWN if name is None else str(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def largest(rows: pl.DataFrame, values: str | Sequence[str], *names: str) -> pl.DataFrame:
    """Return rows, those with the largest values first; equal ones in the order of their names."""
    wanted = [values] if isinstance(values, str) else list(values)
    down = [True] * len(wanted) + [False] * len(names)
    return rows.sort(*wanted, *names, descending=down, nulls_last=True)


def concentration(rows: pl.DataFrame, name: str, value: str, enough: float = 0.5) -> tuple[list[Any], float]:
    """Return the fewest names that together hold ``enough`` of a value, the largest first, and what they hold."""
    found = largest(rows.group_by(name).agg(pl.col(value).sum()).filter(pl.col(value) > 0), value, name)
    held = (found[value].cum_sum() / found[value].sum()).to_list()
    needed = next((i for i, share in enumerate(held) if share >= enough), -1) + 1
    return found[name].head(needed).to_list(), held[needed - 1] if needed else 0.0


def web(url: str | None) -> str:
    """Return an address that may be a link, or nothing."""
    return url if url and url.lower().startswith(WEB) else ""
