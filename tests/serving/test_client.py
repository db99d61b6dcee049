import asyncio
import socket
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import msgspec
import pytest
import uvicorn

from resources.signal_store.stores import LocalStore
from serving.client import ApiError, AsyncClient, Client, EmbeddedClient
from tests.serving.api.conftest import PAGE, made
from tests.support.signals import record

URLS = [f"{PAGE}?gclid=1", "https://b.example/"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return the address of a server, keys to it, and its folder."""
    folder = tmp_path_factory.mktemp("client")
    app, header = made(folder)
    with closing(LocalStore(folder / "signals")) as store:
        store.put([record(PAGE, at=datetime.now(UTC), risk="high")])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", header, app
        server.should_exit = True
        thread.join()


def secret(header, **more):
    return header(**more)["Authorization"].removeprefix("Bearer ")


def test_all_clients_are_told_the_same(served):
    address, header, app = served
    key = secret(header)

    async def asked():
        async with AsyncClient(address, key) as client:
            return await client.look_up(URLS)

    with Client(address, key) as client:
        known = client.look_up(URLS)
    embedded = EmbeddedClient(app.state.server.store, "harbour").look_up(URLS)
    assert [(one.status, one.document_id) for one in known] == [("current", PAGE), ("unknown", None)]
    assert msgspec.json.decode(known[0].signals)["risk"] == "high"
    for others in (asyncio.run(asked()), embedded):
        assert [(one.url, one.status, one.expires_at, bytes(one.signals)) for one in others] == [
            (one.url, one.status, one.expires_at, bytes(one.signals)) for one in known
        ]


def test_a_refusal_is_an_error_that_says_what_to_do(served):
    address, header, _ = served
    with Client(address, "wrong") as client, pytest.raises(ApiError, match="401: Send a key") as refused:
        client.look_up(URLS)
    assert (refused.value.status, refused.value.retry_after) == (401, None)
    with Client(address, secret(header)) as client, pytest.raises(ApiError, match="only looks signals up") as refused:
        client.classify([{"text": "a"}])
    assert (refused.value.status, refused.value.retry_after) == (503, 60.0)
