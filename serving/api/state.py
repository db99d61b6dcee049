"""What the requests of one server process share."""

import asyncio
from dataclasses import dataclass, field

from fastapi import Request

from resources.access_log import AccessLog
from resources.api_keys import ApiKeys
from resources.instruction_set import instruction_set
from resources.privacy_requests import PrivacyRequests
from resources.settings import Settings
from resources.signal_store.stores import SignalStore
from serving.api.batching import Batcher
from serving.api.decider import Decider
from serving.api.rates import RateLimiter
from serving.api.readers import Readers


@dataclass
class ServerState:
    """The connections of one server process.

    Attributes:
        settings: those of the process.
        store: the signals.
        keys: who may call.
        rates: how often each may.
        decider: the models; None on a server that only looks up.
        batcher: has documents decided together.
        readers: read documents.
        access_log: keeps who reads the tables.
        privacy_requests: requests of persons, until the platform carries them out.
        queries: places for queries that run at a time.
        instruction_set: of this machine.
        draining: the server is about to stop, and takes no new work.
    """

    settings: Settings
    store: SignalStore
    keys: ApiKeys
    rates: RateLimiter
    decider: Decider | None
    batcher: Batcher
    readers: Readers
    access_log: AccessLog
    privacy_requests: PrivacyRequests
    queries: asyncio.Semaphore
    instruction_set: str = field(default_factory=instruction_set)
    draining: bool = False


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request has come to."""
    return request.app.state.server
