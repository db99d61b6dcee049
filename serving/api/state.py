"""What the requests of one server process share."""

import asyncio
from dataclasses import dataclass, field

from fastapi import Request

from resources.access_log import AccessLog
from resources.api_keys import ApiKeys
from resources.instruction_set import instruction_set
from resources.privacy_requests import PrivacyRequests
from resources.settings import Settings
from resources.signal_store.shared_reads import Reads, SharedReads
from resources.signal_store.stores import SignalStore
from resources.wanted_pages import WantedPages
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
        reads: the same, as look-up reads it: of another process, what is missing or asked for at once is read once.
        wanted: notes pages that are not known, where that is asked for.
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
    readers: WorkerPool
    access_log: AccessLog
    privacy_requests: PrivacyRequests
    queries: asyncio.Semaphore
    instruction_set: str = field(default_factory=instruction_set)
    draining: bool = False
    reads: Reads = field(init=False)
    wanted: WantedPages | None = field(init=False)

    def __post_init__(self) -> None:
        """Begin to read the store, and to note what is not there."""
        self.reads = self.store if self.store.local else SharedReads(self.store)
        self.wanted = WantedPages(self.settings.wanted_pages) if self.settings.wanted_pages else None


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request has come to."""
    return request.app.state.server
