"""What the requests of one server process share."""

from dataclasses import dataclass

from fastapi import Request

from resources.api_keys import ApiKeys
from resources.settings import Settings
from resources.signal_store.stores import SignalStore


@dataclass
class ServerState:
    """The connections of one server process.

    Attributes:
        settings: those of the process.
        store: the signals.
        keys: who may call.
        draining: the server is about to stop, and takes no new work.
    """

    settings: Settings
    store: SignalStore
    keys: ApiKeys
    draining: bool = False


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request has come to."""
    return request.app.state.server
