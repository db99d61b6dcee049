"""What every table is, as data: one file a table, ``<layer>_<table>.yaml``."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

FOLDER = Path(__file__).parent
TENANT = "tenant_id"
# What a column is: names the organisation that owns the row, or the person that it is about; says something personal,
# or something personal of a special kind (article 9 of the GDPR); or neither.
Class = Literal["tenant", "subject", "personal", "special", "public"]


class _Fact(BaseModel):
    """Part of the catalog: what is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reference(_Fact):
    """Where rows refer to what is looked up.

    Attributes:
        table: whose rows refer, on the same day as the rows that are made of them.
        columns: those that hold the key; any of them.
        spelled: what they may hold instead of the key as it is: another spelling of a URL, or a domain below it.
    """

    table: str
    columns: tuple[str, ...]
    spelled: Literal["url", "subdomain"] | None = None


class Lookup(_Fact):
    """A table in which rows are looked up that may come, or change, after the rows that refer to them.

    Attributes:
        table: the table.
        key: columns by which it is looked up; any of them.
        values: columns that matter: a row of which none changes, changes nothing.
        newest: column by which, of rows with one key, only the newest matters, of each organisation and of all.
        referred_by: where the key stands.
    """

    table: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    newest: str | None = None
    referred_by: Reference


class Table(_Fact):
    """One table.

    Attributes:
        name: ``layer/table``.
        owner: team that answers for it.
        grain: what one row is of.
        columns: every column, by what it is. One that is not declared is seen by no role but the engineer's.
        key: columns that name a row; two nulls are the same.
        prefer: of rows with one key, the first in this order is kept; ``-`` before a column puts the greatest first.
        within_day: rows with one key are always of one day, so that it is looked for nowhere else.
        deliveries: bronze table that may hold a row's record more than once, on other days too.
        streamed: ``seamless stream`` takes rows into it.
        lookups: what may change a day that has been made.
        tolerated: share of quarantined rows up to which the table's check passes.
        rules: Great Expectations' settings of each rule that rows must keep, by the rule's name; None where rows are
            not validated, not even for equal keys.
    """

    name: str
    owner: str
    grain: str
    columns: Mapping[Class, tuple[str, ...]]
    key: tuple[str, ...]
    prefer: tuple[str, ...] = ("source", "position")
    within_day: bool = False
    deliveries: str | None = None
    streamed: bool = False
    lookups: tuple[Lookup, ...] = ()
    tolerated: float = 0.05
    rules: Mapping[str, dict[str, Any]] | None = None

    @property
    def classes(self) -> dict[str, Class]:
        """What each declared column is, by its name."""
        return {name: kind for kind, names in self.columns.items() for name in names}

    @property
    def layer(self) -> str:
        """The layer that it is in."""
        return self.name.partition("/")[0]


@cache
def tables() -> dict[str, Table]:
    """Return every table by its name."""
    found = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        name = file.stem.replace("_", "/", 1)
        found[name] = Table(name=name, **yaml.safe_load(file.read_text(encoding="utf-8")))
    return found


def table(name: str) -> Table:
    """Return a table.

    Raises:
        KeyError: the catalog does not know it.
    """
    return tables()[name]


def layers() -> list[str]:
    """Return the layers that have tables."""
    return list(dict.fromkeys(name.partition("/")[0] for name in tables()))


def names(layer: str) -> list[str]:
    """Return the tables of a layer, by name."""
    return [name for name in tables() if name.startswith(f"{layer}/")]
