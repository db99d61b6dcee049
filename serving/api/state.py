"""What the requests of one server process share."""

from dataclasses import dataclass, field

from fastapi import Request

from resources.api_keys import ApiKeys
from resources.instruction_set import instruction_set
from resources.settings import Settings
from resources.signal_store.stores import SignalStore
from resources.workers.pool import WorkerPool
from serving.api.batching import Batcher
from serving.api.decider import Decider
from serving.api.rates import RateLimiter


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
        instruction_set: of this machine.
        draining: the server is about to stop, and takes no new work.
    """

    settings: Settings
    store: SignalStore
    keys: ApiKeys
    rates: RateLimiter
    decider: Decider | None
    batcher: Batcher
    readers: WorkerPool
    instruction_set: str = field(default_factory=instruction_set)
    draining: bool = False


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request has come to."""
    return request.app.state.server
