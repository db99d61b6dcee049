"""Aggregates of rows: sums, ratios, orders, and the halves of days."""

from collections.abc import Sequence
from typing import Any

import polars as pl


def total(rows: pl.DataFrame, name: str) -> Any:
    """Return the sum of a column."""
    return rows.select(pl.col(name).sum()).item()


def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Return part / whole; null where the whole is zero."""
    return pl.when(whole > 0).then(part / whole)


def halves(days: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the first and the last half of days; a middle day is in neither."""
    distinct = days.unique().sort()
    return distinct.head(len(distinct) // 2), distinct.tail(len(distinct) // 2)


def largest(rows: pl.DataFrame, values: str | Sequence[str], *names: str) -> pl.DataFrame:
    """Return rows sorted by value, largest first, then by name."""
    columns = [values] if isinstance(values, str) else list(values)
    descending = [True] * len(columns) + [False] * len(names)
    return rows.sort(*columns, *names, descending=descending, nulls_last=True)


def concentration(rows: pl.DataFrame, name: str, value: str, enough: float = 0.5) -> tuple[list[Any], float]:
    """Return the fewest names that together have ``enough`` of a total, largest first, and their share."""
    groups = largest(rows.group_by(name).agg(pl.col(value).sum()).filter(pl.col(value) > 0), value, name)
    shares = (groups[value].cum_sum() / groups[value].sum()).to_list()
    needed = next((i for i, share in enumerate(shares) if share >= enough), -1) + 1
    return groups[name].head(needed).to_list(), shares[needed - 1] if needed else 0.0
