"""Access control: roles as data, and the view of a table that each role has."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml

from governance import catalog
from governance.catalog import TENANT, Class

# What a role may do besides reading tables.
Action = Literal["erase", "export", "replay", "verify"]


class AccessDeniedError(PermissionError):
    """An identity may not read or do what it asks, or needs a tenant."""


@dataclass(frozen=True)
class Role:
    """The permissions of one role.

    Attributes:
        name: name of the role.
        description: purpose of the role.
        tables: layers (``gold``) and tables (``silver/pages``) that it reads.
        sees: classes of the columns that it sees; ``all`` is every column, declared or not.
        all_tenants: it reads every tenant's rows unless it names one.
        may: what it may do besides reading.
    """

    name: str
    description: str
    tables: tuple[str, ...]
    sees: tuple[Class, ...] | Literal["all"]
    all_tenants: bool = False
    may: tuple[Action, ...] = ()


@dataclass(frozen=True)
class View:
    """The part of a table that a role sees: some columns, and one tenant's rows (all if None)."""

    columns: tuple[str, ...]
    tenant: str | None


@dataclass(frozen=True)
class Identity:
    """Who asks.

    Attributes:
        name: names it in records.
        role: name of the role that it has.
        tenant: organisation to whose rows it is bound; None for no binding.
    """

    name: str
    role: str
    tenant: str | None

    def narrowed(self, as_role: str | None, tenant: str | None) -> "Identity":
        """Return it as it asks for less: who sees everything may ask as any role, and who is unbound for a tenant.

        Raises:
            AccessDeniedError: it asks for more, or for what is unknown.
        """
        if as_role not in (None, self.role) and role(self.role, self.tenant or tenant).sees != "all":
            raise AccessDeniedError(f"{self.name} has the role {self.role}, and may not ask as {as_role}")
        if self.tenant and tenant not in (None, self.tenant):
            raise AccessDeniedError(f"{self.name} reads the rows of {self.tenant}, and of no other tenant")
        asks = Identity(self.name, as_role or self.role, self.tenant or tenant)
        role(asks.role, asks.tenant)
        return asks

    def require(self, action: Action) -> None:
        """Require that its role may do something.

        Raises:
            AccessDeniedError: it may not.
        """
        if action not in role(self.role, self.tenant).may:
            able = ", ".join(name for name, one in roles().items() if action in one.may)
            raise AccessDeniedError(f"role {self.role} may not {action}: a key of one of these roles may: {able}")


@lru_cache(maxsize=1)
def roles() -> dict[str, Role]:
    """Return every role by its name, from ``access.yaml``."""
    entries = yaml.safe_load((Path(__file__).parent / "access.yaml").read_text(encoding="utf-8"))["roles"]
    return {
        name: Role(
            name,
            entry["says"],
            tuple(entry["tables"]),
            "all" if entry["sees"] == "all" else tuple(entry["sees"]),
            entry.get("all_tenants", False),
            tuple(entry.get("may", ())),
        )
        for name, entry in entries.items()
    }


def role(name: str, tenant: str | None) -> Role:
    """Return a role.

    Raises:
        AccessDeniedError: it is unknown, or needs a tenant and none is named.
    """
    reader = roles().get(name)
    if reader is None:
        raise AccessDeniedError(f"role {name!r} is unknown; there are {', '.join(roles())}")
    if not reader.all_tenants and not tenant:
        raise AccessDeniedError(f"role {name} reads the rows of one tenant: name it with --tenant")
    return reader


def view(reader: Role, tenant: str | None, table: str, columns: Sequence[str]) -> View | None:
    """Return the part of a table that a role sees; None if it may not read it.

    A table whose rows name no tenant is visible only without a tenant, to roles that read all.
    """
    entry = catalog.table(table)
    if entry.layer not in reader.tables and table not in reader.tables:
        return None
    if TENANT not in columns and tenant is not None:
        return None
    visible = columns if reader.sees == "all" else [name for name in columns if entry.classes.get(name) in reader.sees]
    return View(tuple(visible), tenant)
