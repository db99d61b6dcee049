"""Who calls: an API key names a tenant, a role and scopes, and has a rate."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from governance import catalog
from governance.access import AccessDeniedError, role, view
from resources.api_keys import ApiKeysError, Scope
from serving.api.problems import problem
from serving.api.state import state_of

# The table whose rows the store holds: who may read it may look signals up.
RECORDS = "gold/contextual_signals"
BEARER = HTTPBearer(auto_error=False, scheme_name="API key", description="An API key, as `seamless serve keys` makes.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
LIMITER = FixedWindowRateLimiter(MemoryStorage())


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        key_id: names the key in logs.
        tenant: organisation whose rows it reads.
        hidden: columns of the consumer record that its role does not see.
    """

    key_id: str
    tenant: str
    hidden: frozenset[str]


def allowed(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that lets in who has a key with a scope, within its rate."""

    async def caller(request: Request, credentials: Credentials) -> Caller:
        state = state_of(request)
        try:
            key = state.keys.find(credentials.credentials, datetime.now(UTC)) if credentials else None
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
        if hidden is None:
            raise problem(403, f"The role {key.role} may not read signals: ask for a key of a role that may.")
        rate = rate_of(state.settings.api_rate)
        if not LIMITER.hit(rate, key.id):
            wait = max(math.ceil(LIMITER.get_window_stats(rate, key.id).reset_time - time.time()), 1)
            raise problem(429, "The key is above its rate: wait as Retry-After says.", Retry_After=str(wait))
        return Caller(key.id, key.tenant, hidden)

    return caller


@lru_cache(maxsize=8)
def rate_of(said: str) -> RateLimitItem:
    """Return a rate such as ``2000/second``."""
    return parse(said)


@lru_cache(maxsize=1_024)
def hidden_columns(role_name: str, tenant: str) -> frozenset[str] | None:
    """Return the columns of the consumer record that a role does not see; None if it may not read the table."""
    columns = tuple(catalog.table(RECORDS).classes)
    try:
        seen = view(role(role_name, tenant), tenant, RECORDS, columns)
    except AccessDeniedError:
        return None
    return None if seen is None else frozenset(columns) - frozenset(seen.columns)
