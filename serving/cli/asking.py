"""Who asks, as the commands that read tables are told it, and the record of what was asked."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from governance.access import Identity
from resources.access_log import AccessLog, Answer
from resources.identity import OWNER, identity
from resources.settings import settings

AsRole = Annotated[
    str | None,
    typer.Option("--as", help="Role to read as (governance/access.yaml), for who sees everything; else one's own."),
]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Tenant whose rows are read.")]


@contextmanager
def asking(
    door: str, question: str, as_role: str | None = None, tenant: str | None = None, *, query: str | None = None
) -> Generator[tuple[Identity, Answer]]:
    """Yield who asks and what comes of it, which is recorded; say so where no key says who asks.

    Args:
        door: command.
        question: what is asked, of which only a digest is kept.
        as_role: role to ask as; None for one's own.
        tenant: tenant to ask for; None for one's own.
        query: the question without what may be personal, where it is a query.

    Raises:
        UnknownKeyError: the key in the environment is none.
        AccessDeniedError: it asks for more than it may.
    """
    found = identity(settings(), datetime.now(UTC))
    asks = found.narrowed(as_role, tenant)
    with AccessLog(settings()).recorded(asks, door, question, query) as answer:
        yield asks, answer
    if found == OWNER:
        typer.echo(f"no key in SEAMLESS_KEY: {found.name} asks, who is {found.role}", err=True)
