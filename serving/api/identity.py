"""Who calls: an API key names a tenant, a role and scopes, and has a rate."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from fastapi import Request

from governance import catalog
from governance.access import AccessDeniedError, Identity, role, view
from resources.api_keys import ApiKeysError, Scope
from serving.api.problems import problem
from serving.api.state import state_of

# The table whose rows the store holds: who may read it may look signals up.
RECORDS = "gold/contextual_signals"
# What a key is used for without reading the store.
BESIDE: tuple[Scope, ...] = ("sql", "privacy")
# How OpenAPI says that a route needs a key: FastAPI's own dependency would cost as much as a look-up.
SECURITY_SCHEME = {"type": "http", "scheme": "bearer", "description": "An API key, as `seamless serve keys` makes."}


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        key_id: names the key in logs.
        tenant: organisation whose rows it reads.
        role: role that it reads as.
        hidden: columns of the consumer record that its role does not see.
    """

    key_id: str
    tenant: str
    role: str
    hidden: frozenset[str]

    @property
    def identity(self) -> Identity:
        """Who it is where access to tables is recorded."""
        return Identity(f"key {self.key_id}", self.role, self.tenant)


def allowed(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that lets in who has a key with a scope, within its rate."""

    async def caller(request: Request) -> Caller:
        state = state_of(request)
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        try:
            key = state.keys.find(secret.strip(), datetime.now(UTC)) if scheme.lower() == "bearer" else None
        except ApiKeysError:
            raise problem(503, "The keys cannot be read: tell who runs the server.", Retry_After="5") from None
        if key is None:
            detail = "Send a key that is valid, in the header Authorization: Bearer KEY."
            raise problem(401, detail, WWW_Authenticate="Bearer")
        # The log and the metrics name the key, never its secret.
        request.state.key_id = key.id
        if scope not in key.scopes:
            raise problem(403, f"The key has no scope {scope}: ask for one that has.")
        hidden = hidden_columns(key.role, key.tenant)
        if hidden is None and scope not in BESIDE:
            raise problem(403, f"The role {key.role} may not read signals: ask for a key of a role that may.")
        wait = state.rates.wait(key.id)
        if wait:
            detail = "The key is above its rate: wait as Retry-After says."
            raise problem(429, detail, Retry_After=str(math.ceil(wait)))
        return Caller(key.id, key.tenant, key.role, hidden or frozenset())

    return caller


@lru_cache(maxsize=1_024)
def hidden_columns(role_name: str, tenant: str) -> frozenset[str] | None:
    """Return the columns of the consumer record that a role does not see; None if it may not read the table."""
    columns = tuple(catalog.table(RECORDS).classes)
    try:
        seen = view(role(role_name, tenant), tenant, RECORDS, columns)
    except AccessDeniedError:
        return None
    return None if seen is None else frozenset(columns) - frozenset(seen.columns)
