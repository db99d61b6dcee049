"""Days, by which most tables are partitioned."""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

DAY = "event_date"


def days_of(rows: pl.DataFrame) -> list[str]:
    """Return the days of rows, as ISO dates, oldest first."""
    return rows[DAY].unique().sort().cast(pl.String).to_list()


def contiguous(days: Sequence[str]) -> bool:
    """Return whether days follow one another without a gap."""
    return date.fromisoformat(max(days)) - date.fromisoformat(min(days)) == timedelta(days=len(set(days)) - 1)


def only_days(days: Sequence[str]) -> pl.Expr:
    """Return the condition that a row's day is among some days (ISO dates)."""
    if days and contiguous(days):
        return pl.col(DAY).is_between(date.fromisoformat(min(days)), date.fromisoformat(max(days)))
    return pl.col(DAY).is_in([date.fromisoformat(day) for day in days])


def on_days_in_sql(days: Sequence[str]) -> str:
    """Return the condition in SQL that a row's day is among some days (ISO dates)."""
    if contiguous(days):
        return f"{DAY} >= '{min(days)}' AND {DAY} <= '{max(days)}'"
    return f"{DAY} IN ({', '.join(repr(str(day)) for day in days)})"
