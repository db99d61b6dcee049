"""Rows of a table with days, as tests of the lakehouse write and read them."""

from datetime import date
from pathlib import Path

import polars as pl

from resources.lakehouse.tables import Lakehouse

MON, TUE, WED, THU = DAYS = ["2026-11-09", "2026-11-10", "2026-11-11", "2026-11-12"]
SCHEMA = {"id": pl.String, "value": pl.Int64, "event_date": pl.Date}
PAGES = "silver/pages"

Row = tuple[str, int, str]


def frame(*rows: Row) -> pl.DataFrame:
    typed = [(name, value, date.fromisoformat(day)) for name, value, day in rows]
    return pl.DataFrame(typed, schema=SCHEMA, orient="row")


def stored(lake: Lakehouse, table: str = PAGES) -> list[Row]:
    rows = lake.read(table).select("id", "value", "event_date").rows() if lake.exists(table) else []
    return sorted((name, value, str(day)) for name, value, day in rows)


def lose(lake: Lakehouse, table: str, day: str) -> None:
    """Delete the files of a day, so that whoever opens one fails."""
    for file in (Path(lake.location(table)) / f"event_date={day}").glob("*.parquet"):
        file.unlink()
