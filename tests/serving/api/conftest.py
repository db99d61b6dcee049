"""A server of a test's own, in this process, with a store of pages and keys to call it with."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from resources.api_keys import ApiKeys
from resources.settings import load_settings
from serving.api.app import create_app
from tests.support.signals import record

PAGE, OTHER = "https://a.example/story", "https://a.example/other"


def made(folder, **given):
    """Return an app that keeps all that it keeps in a folder, and a function that makes keys."""
    kept = {"signal_store": str(folder / "signals"), "api_keys": folder / "keys.json", "api_models": False}

    def header(tenant="harbour", role="decisioning", **more):
        _, secret = ApiKeys(folder / "keys.json").add(tenant, role, **more)
        return {"Authorization": f"Bearer {secret}"}

    return create_app(load_settings(**kept | given)), header


@contextmanager
def served(folder, **given):
    """Yield a client of a server that keeps all that it keeps in a folder, and a function that makes keys."""
    app, header = made(folder, **given)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, header


@pytest.fixture
def server(tmp_path):
    with served(tmp_path) as (client, header):
        now = datetime.now(UTC)
        old = record(OTHER, at=now - timedelta(days=31))
        client.app.state.server.store.put([record(PAGE, at=now, risk="high"), old])
        yield client, header
