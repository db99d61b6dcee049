"""A report page as plain data, and its rendering as one self-contained HTML file.

A block (chart or grid) without data says so. The template escapes text from tables. Plotly interprets some HTML, so
text in a plot goes through ``label``.
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
from platform_assets.reports.aggregates import halves
from platform_assets.reports.text import Style, format_value, percent
from resources.lakehouse.days import DAY
from resources.lakehouse.files import write_file
from resources.lakehouse.tables import Lakehouse
from signals.documents.urls import WEB

FOLDER = Path(__file__).parent
# A page covers this time up to the newest day of its data.
MAX_AGE = timedelta(days=28)
KINDS = ("delta", "polars", "plotly")


@dataclass(frozen=True)
class Headline:
    """A figure at the top of a page, its change, and whether that is ``good`` or ``bad``."""

    label: str
    value: str
    change: str = ""
    tone: str = ""
    line: str = ""


@dataclass(frozen=True)
class Chart:
    """A plot (Plotly's traces and layout), with a sentence that sums it up."""

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
        """The plot as Plotly.js expects it."""
        axes = {name: {**AXIS, **self.layout.get(name, {})} for name in ("xaxis", "yaxis")}
        return {"data": self.data, "layout": {**LAYOUT, "height": self.height, **self.layout, **axes}}


@dataclass(frozen=True)
class Column:
    """A column of a grid: the key in its rows, its head, the style of its values, and the key of its links."""

    name: str
    head: str
    style: Style = "text"
    link: str = ""


@dataclass(frozen=True)
class Grid:
    """A table, with a sentence that sums it up."""

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
    """A report page: its finding, headlines, sections, glossary, and the versions of the tables read."""

    title: str
    purpose: str
    finding: str
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    terms: Mapping[str, str]
    days: Sequence[date]
    versions: Mapping[str, int]


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


def render(page: Page, made_at: datetime) -> bytes:
    """Return a page as one HTML file that contains its styles, data and Plotly."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    variables = {"page": page, "compared": comparison_note(page.days), "made_at": made_at}
    body = Markup(_template().render(variables))  # noqa: S704 - escaped by the template
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
    environment.filters |= {"format_value": format_value, "safe_link": safe_link, "sparkline": sparkline}
    return environment.get_template("page.html")


def publish(lakehouse: Lakehouse, table: str, page: Page) -> dg.MetadataValue:
    """Write a table's page beside it, and return its location for the materialisation."""
    location = write_file(lakehouse, f"{table}.html", render(page, datetime.now(UTC)))
    return dg.MetadataValue.url(location) if "://" in location else dg.MetadataValue.path(location)


def last_days(lakehouse: Lakehouse, tables: Iterable[str]) -> list[str]:
    """Return the days with rows that a page on these tables covers, oldest first."""
    days = sorted({date.fromisoformat(day) for table in tables for day in lakehouse.days(table)})
    return [day.isoformat() for day in days if day > days[-1] - MAX_AGE]


def read(lakehouse: Lakehouse, table: str, days: Sequence[str], columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return a table's rows of some days; NaN, which JSON lacks, becomes null."""
    rows = lakehouse.scan(table, days or None)
    rows = rows.select(columns) if columns else rows
    return rows.collect().fill_nan(None)


def versions(lakehouse: Lakehouse, tables: Iterable[str]) -> dict[str, int]:
    """Return the versions of the tables that exist."""
    return {table: lakehouse.version(table) for table in tables if lakehouse.exists(table)}


def headline(
    name: str, rows: pl.DataFrame, value: pl.Expr, style: Style, *, rising: Literal["good", "bad", ""] = ""
) -> Headline:
    """Return a figure over all rows, and its change from the first half of their days to the last.

    Args:
        name: label of the figure.
        rows: rows with ``event_date``.
        value: aggregate over rows.
        style: style of the value; a percent changes by points, all else relatively.
        rising: whether a rise is good or bad.
    """
    parts = halves(rows[DAY])
    first, last = (rows.filter(pl.col(DAY).is_in(days.implode())).select(value).item() for days in parts)
    line = rows.group_by(DAY).agg(value=value).sort(DAY)["value"].to_list()
    change, tone = "", ""
    if len(parts[0]) and first is not None and last is not None and (style == "percent" or first):
        change_by = last - first if style == "percent" else last / first - 1
        size = f"{abs(change_by) * 100:.1f} points" if style == "percent" else percent(abs(change_by))
        change = f"{'▲' if change_by > 0 else '▼'} {size}" if round(change_by, 3) else "unchanged"
        falling = {"good": "bad", "bad": "good", "": ""}[rising]
        tone = "" if change == "unchanged" else rising if change_by > 0 else falling
    return Headline(name, format_value(rows.select(value).item(), style), change, tone, sparkline(line))


def comparison_note(days: Sequence[date]) -> str:
    """Return the sentence on what the headlines' changes compare."""
    if len(days) == 1:
        return "One day so far: there is nothing to compare it with."
    return "Changes compare the later half of these days with the earlier half." if days else ""


def sparkline(values: Sequence[float | None]) -> str:
    """Return the points of a line through values, in a box of 100 by 24."""
    present = [value for value in values if value is not None]
    if len(present) < 2:
        return ""
    low, span = min(present), (max(present) - min(present)) or 1.0
    step = 100 / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{22 - 20 * (v - low) / span:.1f}" for i, v in enumerate(values) if v is not None)


def safe_link(url: str | None) -> str:
    """Return a URL that is safe to link, else an empty string."""
    return url if url and url.lower().startswith(WEB) else ""
