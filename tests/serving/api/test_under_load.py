"""A server as a process of its own, under load: what happens to it costs no request, and a kill loses no answer."""

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import httpx2
import pytest

from resources.api_keys import FileKeys
from resources.decision_spool import FOLDER
from resources.encoder import Encoder
from resources.registry import promotion
from resources.registry.models import registry
from resources.settings import PROJECT, load_settings
from resources.signal_store.stores import LocalStore
from serving.client import ApiError, Client
from tests.conftest import environment
from tests.encoders import head
from tests.serving.api.conftest import PAGE
from tests.support.signals import record

pytestmark = pytest.mark.slow
SERVE = "import sys; sys.argv[0] = 'seamless'; from serving.cli import main; main()"


@contextmanager
def serving(taught, port):
    """Yield the process of a server, once it is ready; it is killed at the end."""
    folder, kept = taught
    own = {name.upper(): str(value) for name, value in kept.items()}
    own |= {"SIGNAL_STORE": f"{folder}/signals", "API_KEYS": f"{folder}/keys.json"}
    command = [sys.executable, "-c", SERVE, "serve", "--port", str(port)]
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(command, env=environment(folder) | own, cwd=PROJECT, stderr=log)
    try:
        until = time.monotonic() + 120
        while not _ready(port) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        assert _ready(port), (folder / "server.log").read_text()[-2_000:]
        yield process
    finally:
        process.kill()
        process.wait()


def _ready(port):
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx2.HTTPError:
        return False


class Load:
    """Callers that ask without pause, and what they were answered."""

    def __init__(self, port, key):
        self.key, self.port = key, port
        self.used = {}
        self.answered, self.versions, self.failed, self.stop = [], set(), [], Event()
        self.threads = [Thread(target=self.ask, args=(number,)) for number in range(3)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def ask(self, caller):
        while not self.stop.is_set():
            key = self.used[caller] = self.key
            try:
                with Client(f"http://127.0.0.1:{self.port}", key, timeout=60) as client:
                    (known,) = client.look_up([PAGE])
                    assert known.status == "current"
                    text = f"caller {caller} asks {time.monotonic()}"
                    (answer,) = client.classify([{"text": text}], tasks=["sentiment"])
                    self.answered += [decision["decision_id"] for decision in answer.decisions]
                    self.versions |= {decision["model_version"] for decision in answer.decisions}
            except (httpx2.HTTPError, ApiError, AssertionError) as error:
                self.failed.append(repr(error))
                return


def waited(holds):
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def kept_ids(folder):
    lines = [
        line for file in Path(folder / "spool" / FOLDER).glob("*.jsonl") for line in file.read_bytes().splitlines()
    ]
    return {json.loads(line)["decision_id"] for line in lines if line.endswith(b"}")}


def test_promotion_rollback_and_a_new_key_cost_no_request_a_kill_no_answer_and_a_stop_neither(taught):
    folder, kept = taught
    keys, models = FileKeys(folder / "keys.json"), registry(load_settings(**kept))
    LocalStore(folder / "signals").put([record(PAGE, at=datetime.now(UTC))])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    old, secret = keys.add("harbour", "decisioning")
    with serving(taught, port) as process, Load(port, secret) as load:
        assert waited(lambda: load.answered)
        first = max(load.versions)
        promoted = head(models, Encoder(registry=models), "sentiment", 99).version
        assert waited(lambda: promoted in load.versions)
        _, load.key = keys.add(old.tenant, old.role)
        keys.expire(old.id, datetime.now(UTC) + timedelta(hours=1))
        promotion.roll_back(models, "sentiment", first, by="ada", why="complaints")
        load.versions = set()
        assert waited(lambda: first in load.versions)
        assert waited(lambda: {*load.used.values()} == {load.key})
        keys.revoke(old.id)
        more = len(load.answered)
        assert waited(lambda: len(load.answered) > more + 5)
        assert load.failed == []
        before = len(load.answered)
        assert waited(lambda: len(load.answered) > before + 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(load.answered) > 10
    assert {*load.answered} <= kept_ids(folder)
    with serving(taught, port) as process:
        stopped = []

        def ask():
            with Client(f"http://127.0.0.1:{port}", load.key, timeout=60) as client:
                stopped.extend(client.classify([{"text": f"text {n}"} for n in range(64)], tasks=["sentiment"]))

        thread = Thread(target=ask)
        thread.start()
        time.sleep(0.2)
        process.terminate()
        thread.join()
        process.wait(timeout=60)
    assert [answer.status for answer in stopped] == ["decided"] * 64
    assert {decision["decision_id"] for answer in stopped for decision in answer.decisions} <= kept_ids(folder)
