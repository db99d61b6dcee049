"""The catalog: the facts of every table as data, one file a table, ``<layer>_<table>.yaml``."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

FOLDER = Path(__file__).parent
TENANT = "tenant_id"
# Owns the rows that name no tenant.
DEFAULT_TENANT = "default"
# Columns besides the key by which rows are looked for.
LOOKED_FOR = ("source", "position", "received_at", "document_id")
# Class of a column: it names the row's tenant, or its subject; it holds personal data, or personal data of a special
# category (article 9 of the GDPR); or it is public.
Class = Literal["tenant", "subject", "personal", "special", "public"]


class _Entry(BaseModel):
    """Part of the catalog; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reference(_Entry):
    """The columns that refer to a looked-up key.

    Attributes:
        table: table with the columns; its rows are on the same day as the rows made from them.
        columns: columns that may hold the key.
        spelled: variant of the key that they may hold: another spelling of a URL, or a subdomain.
    """

    table: str
    columns: tuple[str, ...]
    spelled: Literal["url", "subdomain"] | None = None


class Lookup(_Entry):
    """A looked-up table whose rows may arrive or change after the rows that refer to them.

    Attributes:
        table: the looked-up table.
        key: columns by which it is looked up; any of them.
        values: columns that are used; a change of others makes no day stale.
        newest: column by which only the newest row of a key is used, of each tenant and of all.
        referred_by: columns that refer to the key.
    """

    table: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    newest: str | None = None
    referred_by: Reference


class Table(_Entry):
    """One table.

    Attributes:
        name: ``layer/table``.
        owner: team that is responsible for it.
        grain: what one row is.
        columns: columns by class. An undeclared column is visible only to the role engineer.
        key: columns that name a row; two nulls are equal.
        prefer: order by which one of several rows with the same key is chosen; ``-`` means descending.
        within_day: all rows of a key are on one day, so the key is searched there only.
        deliveries: bronze table that may hold a row's record more than once, on other days too.
        streamed_from: bronze tables of whose rows ``seamless stream`` makes rows of this one.
        consent: column that says whether the row's person consents; else what is about them is not kept.
        lookups: looked-up tables whose changes make its days stale.
        tolerated: share of quarantined rows up to which the table's check passes.
        rules: Great Expectations' settings of each rule, by the rule's name; None where rows are not validated, not
            even for repeated keys.
    """

    name: str
    owner: str
    grain: str
    columns: Mapping[Class, tuple[str, ...]]
    key: tuple[str, ...]
    prefer: tuple[str, ...] = ("source", "position")
    within_day: bool = False
    deliveries: str | None = None
    streamed_from: tuple[str, ...] = ()
    consent: str | None = None
    lookups: tuple[Lookup, ...] = ()
    tolerated: float = 0.05
    rules: Mapping[str, dict[str, Any]] | None = None

    @property
    def classes(self) -> dict[str, Class]:
        """Class of each declared column, by its name."""
        return {name: kind for kind, names in self.columns.items() for name in names}

    @property
    def streamed(self) -> bool:
        """Whether ``seamless stream`` writes rows into it."""
        return bool(self.streamed_from)

    @property
    def statistics(self) -> tuple[str, ...]:
        """Columns whose least and greatest values each file's entry in the log holds: none that is personal."""
        names = dict.fromkeys((*self.key, *LOOKED_FOR))
        return tuple(name for name in names if self.classes.get(name) in ("tenant", "public"))

    @property
    def layer(self) -> str:
        """Layer of the table."""
        return self.name.partition("/")[0]


@cache
def tables() -> dict[str, Table]:
    """Return every table by its name."""
    entries = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        name = file.stem.replace("_", "/", 1)
        entries[name] = Table(name=name, **yaml.safe_load(file.read_text(encoding="utf-8")))
    return entries


def table(name: str) -> Table:
    """Return a table.

    Raises:
        KeyError: the catalog has no such table.
    """
    return tables()[name]


def layers() -> list[str]:
    """Return the layers that have tables."""
    return list(dict.fromkeys(name.partition("/")[0] for name in tables()))


def names(layer: str) -> list[str]:
    """Return the names of a layer's tables."""
    return [name for name in tables() if name.startswith(f"{layer}/")]
