"""A server of a test's own, in this process, with a store of pages and keys to call it with."""

import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from resources.api_keys import FileKeys
from resources.encoder import Encoder
from resources.registry.models import registry
from resources.settings import load_settings
from serving.api.app import create_app
from tests.encoders import head
from tests.support.signals import record

TASKS = ("sentiment", "threat", "iab_category")
PAGE, OTHER = "https://a.example/story", "https://a.example/other"


def made(folder, **given):
    """Return an app that keeps all that it keeps in a folder, and a function that makes keys."""
    kept = {"signal_store": str(folder / "signals"), "api_keys": str(folder / "keys.json"), "api_models": False}
    kept |= {"access_log": str(folder / "access"), "access_anchors": str(folder / "anchors")}
    kept |= {"privacy_requests": folder / "requests"}

    def header(tenant="harbour", role="decisioning", **more):
        _, secret = FileKeys(folder / "keys.json").add(tenant, role, **more)
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


@pytest.fixture(scope="session")
def taught(blank, tmp_path_factory):
    """Return a folder with a registry of three models that answer at random, and the settings that name it."""
    folder = tmp_path_factory.mktemp("api")
    shutil.copy(blank, folder / "db")
    kept = {
        "mlflow_tracking_uri": f"sqlite:///{folder}/db",
        "mlflow_artifacts": str(folder / "files"),
        "model_cache": folder / "cache",
        "lakehouse_uri": str(folder / "lake"),
        "decision_spool": folder / "spool",
    }
    models = registry(load_settings(**kept))
    for number, task in enumerate(TASKS):
        head(models, Encoder(registry=models), task, number)
    return folder, kept
