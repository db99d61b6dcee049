"""Who may read what: roles as data, and the function that says which part of a table a role sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml

from governance import catalog
from governance.catalog import TENANT, Class


class AccessDeniedError(PermissionError):
    """A role may not read what it asks for."""


@dataclass(frozen=True)
class Role:
    """What one role may read.

    Attributes:
        name: name of the role.
        says: who it is for.
        tables: layers (``gold``) and tables (``silver/pages``) that it reads.
        sees: classes of the columns that it sees; ``all`` is every column, declared or not.
        all_tenants: it reads every tenant's rows unless it asks for one.
    """

    name: str
    says: str
    tables: tuple[str, ...]
    sees: tuple[Class, ...] | Literal["all"]
    all_tenants: bool = False


@dataclass(frozen=True)
class View:
    """The part of a table that a role sees: these columns, of this tenant's rows (of all if None)."""

    columns: tuple[str, ...]
    tenant: str | None


@lru_cache(maxsize=1)
def roles() -> dict[str, Role]:
    """Return every role by its name, from ``access.yaml``."""
    found = yaml.safe_load((Path(__file__).parent / "access.yaml").read_text(encoding="utf-8"))["roles"]
    return {
        name: Role(
            name,
            role["says"],
            tuple(role["tables"]),
            "all" if role["sees"] == "all" else tuple(role["sees"]),
            role.get("all_tenants", False),
        )
        for name, role in found.items()
    }


def role(name: str, tenant: str | None) -> Role:
    """Return a role.

    Raises:
        AccessDeniedError: it is unknown, or reads one tenant's rows and none is named.
    """
    found = roles().get(name)
    if found is None:
        raise AccessDeniedError(f"role {name!r} is unknown; there are {', '.join(roles())}")
    if not found.all_tenants and not tenant:
        raise AccessDeniedError(f"role {name} reads the rows of one tenant: name it with --tenant")
    return found


def view(of: Role, tenant: str | None, table: str, columns: Sequence[str]) -> View | None:
    """Return what a role sees of a table; None if it may not read it.

    A table whose rows name no tenant shows itself only to roles that read all tenants.
    """
    known = catalog.table(table)
    if known.layer not in of.tables and table not in of.tables:
        return None
    if TENANT not in columns and tenant is not None:
        return None
    seen = columns if of.sees == "all" else [name for name in columns if known.classes.get(name) in of.sees]
    return View(tuple(seen), tenant)
