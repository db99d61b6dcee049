"""Who asks, as the commands that read tables are told it."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from governance.access import Identity
from resources.identity import OWNER, identity
from resources.settings import settings

AsRole = Annotated[
    str | None,
    typer.Option("--as", help="Role to read as (governance/access.yaml), for who sees everything; else one's own."),
]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Tenant whose rows are read.")]


def asking(as_role: str | None, tenant: str | None) -> Identity:
    """Return who asks, as it asks; say so where no key does.

    Raises:
        UnknownKeyError: the key in the environment is none.
        AccessDeniedError: it asks for more than it may.
    """
    found = identity(settings(), datetime.now(UTC))
    if found == OWNER:
        typer.echo(f"no key in SEAMLESS_KEY: {found.name} asks, who is {found.role}", err=True)
    return found.narrowed(as_role, tenant)
