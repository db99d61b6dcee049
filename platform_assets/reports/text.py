"""Figures and names as text."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from signals.risks import UNKNOWN

MISSING = "–"
Style = Literal[
    "text", "title", "name", "count", "percent", "dollars", "decimal", "moment", "chip", "bar", "line", "code"
]


def format_value(value: Any, style: Style = "text") -> str:
    """Return a value as text."""
    if value is None:
        return MISSING
    formats = {
        "count": lambda: count(value),
        "percent": lambda: percent(value),
        "bar": lambda: percent(value),
        "dollars": lambda: dollars(value),
        "decimal": lambda: f"{value:,.2f}",
        "moment": lambda: f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value),
    }
    return formats.get(style, lambda: str(value))()


def count(value: float) -> str:
    """Return 1,234."""
    return f"{round(value):,}"


def percent(value: float) -> str:
    """Return 12.3 %; two decimal places for small shares."""
    return f"{value * 100:.{2 if 0 < abs(value) < 0.00995 else 1}f}\u00a0%"


def dollars(value: float) -> str:
    """Return $1,234.56."""
    return f"{'−' if value < 0 else ''}${abs(value):,.2f}"


def plural(number: float, thing: str) -> str:
    """Return ``1 page`` or ``1,234 pages``."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


def join_words(names: Iterable[object]) -> str:
    """Return ``a, b and c``."""
    words = [UNKNOWN if name is None else str(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
