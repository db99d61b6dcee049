"""Money of other currencies in US dollars, at rates that have a date."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

USD = "USD"


class RatesError(ValueError):
    """A line of rates cannot be read; the message names it."""


@dataclass(frozen=True)
class Rates:
    """What one unit of a currency is in US dollars.

    Attributes:
        known: of each ISO 4217 code, the days from which a rate holds, oldest first, and the rates.
    """

    known: Mapping[str, tuple[list[date], list[float]]] = field(default_factory=dict)

    def in_usd(self, amount: float | None, currency: str, day: date) -> float | None:
        """Return an amount in US dollars; None where no rate is known on that day or before it."""
        if amount is None or currency == USD or not amount:
            return amount
        days, rates = self.known.get(currency, ([], []))
        at = bisect_right(days, day)
        return round(amount * rates[at - 1], 6) if at else None


def rates(text: str) -> Rates:
    """Read rates: lines of date, currency and US dollars for one unit, with tabs between; ``#`` begins a comment.

    Raises:
        RatesError: a line is none of these.
    """
    found: dict[str, dict[date, float]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].split()
        if not said:
            continue
        try:
            day, currency, rate = date.fromisoformat(said[0]), said[1].upper(), float(said[2])
        except (IndexError, ValueError):
            raise RatesError(f"line {number}: date, currency and US dollars for one unit are expected") from None
        if len(said) > 3 or not (math.isfinite(rate) and rate > 0):
            raise RatesError(f"line {number}: date, currency and US dollars for one unit are expected")
        found.setdefault(currency, {})[day] = rate
    known = {currency: dict(sorted(by_day.items())) for currency, by_day in found.items()}
    return Rates({currency: (list(by_day), list(by_day.values())) for currency, by_day in known.items()})
