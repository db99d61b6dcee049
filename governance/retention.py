"""Retention: how long the days of each table are kept, as data, and which of them have expired."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt

from governance import catalog

FILE = Path(__file__).parent / "retention.yaml"


class Hold(BaseModel):
    """Days of a table that stay, whatever their age.

    Attributes:
        table: the table.
        first: first day.
        last: last day.
        why: the reason, such as a court's order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    first: date
    last: date
    why: str


class Policy(BaseModel):
    """How long days are kept.

    Attributes:
        days: number of days by layer, or by table; a layer that is not named is kept.
        holds: exceptions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Mapping[str, PositiveInt]
    holds: tuple[Hold, ...] = ()

    def kept_days(self, table: catalog.Table) -> int | None:
        """Return for how many days a table keeps a day; None for ever."""
        return self.days.get(table.name, self.days.get(table.layer))

    def expired(self, table: catalog.Table, days: Iterable[str], today: date) -> list[str]:
        """Return those of some days (ISO dates) that a table no longer keeps."""
        kept = self.kept_days(table)
        if kept is None:
            return []
        oldest, holds = today - timedelta(days=kept), [hold for hold in self.holds if hold.table == table.name]
        old = [day for day in days if date.fromisoformat(day) < oldest]
        return [day for day in old if not any(hold.first <= date.fromisoformat(day) <= hold.last for hold in holds)]


@lru_cache(maxsize=1)
def policy() -> Policy:
    """Return the policy, from ``retention.yaml``."""
    return Policy.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))
