"""A server under a steady load while models, the signal store and the key change: failed requests, and its memory.

    python -m benchmarks.soak --minutes 10

Callers look up, enrich and classify in turn. What they reach without a pause is saturation; then they ask at half of
it. Meanwhile a model is promoted and rolled back, the store is restarted, and the key is replaced and the old one
revoked. The models answer at random, which costs as much as if they knew.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Self

import httpx2

from benchmarks.place import key_value
from benchmarks.serving import TENANT, record
from devstack import servers
from resources.api_keys import FileKeys
from resources.encoder import Encoder
from resources.registry import promotion
from resources.registry.models import Registry, registry
from resources.settings import PROJECT, load_settings
from resources.signal_store.stores import signal_store
from serving.client import ApiError, Client
from tests.encoders import head

TASK, OTHERS = "sentiment", ("threat", "iab_category")
CALLERS, PAGES, SECONDS_TO_SATURATE = 4, 1_000, 10.0
SERVE = "import sys; sys.argv[0] = 'seamless'; from serving.cli import main; main()"
# What is done to a server; returns whether it has come to count.
Step = Callable[[], bool]
START_SECONDS = WAIT_SECONDS = 120


@contextmanager
def serving(folder: Path, kept: Mapping[str, Any], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the process of a server with some settings, once it is ready; it is killed at the end."""
    own = {name.upper(): str(value) for name, value in kept.items()}
    command = [sys.executable, "-c", SERVE, "serve", "--port", str(port)]
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(command, env=os.environ | own, cwd=PROJECT, stderr=log)
    try:
        waited(lambda: _ready(port) or process.poll() is not None, START_SECONDS)
        if not _ready(port):
            raise RuntimeError((folder / "server.log").read_text()[-2_000:])
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def waited(holds: Callable[[], Any], seconds: float = WAIT_SECONDS) -> bool:
    """Wait until something holds; return whether it does."""
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(holds())


def _ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx2.HTTPError:
        return False


class Load:
    """Callers that look a page up, enrich a bid request of it and classify a text, again and again.

    Args:
        port: of the server.
        key: that they send; another may be set meanwhile.
        page: that they ask about.
        rate: rounds a second of all of them; None for as many as are answered.

    Attributes:
        answered: ids of the decisions that they were answered with.
        versions: versions of the task's model that answered; may be emptied meanwhile.
        failed: what was not answered as it should be.
        used: the key that each caller sent last.
    """

    def __init__(self, port: int, key: str, page: str, rate: float | None = None) -> None:
        self.key, self._address, self._page = key, f"http://127.0.0.1:{port}", page
        self._pause = CALLERS / rate if rate else 0.0
        self.answered: list[str] = []
        self.versions: set[int] = set()
        self.failed: list[str] = []
        self.used: dict[int, str] = {}
        self.rounds, self._lock, self._stop = 0, Lock(), Event()
        self._threads = [Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, once what was asked is answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, caller: int) -> None:
        due = time.monotonic() + self._pause * caller / CALLERS
        while not self._stop.wait(max(due - time.monotonic(), 0)):
            due += self._pause
            key = self.used[caller] = self.key
            try:
                with Client(self._address, key, timeout=60) as client:
                    self._ask(client, f"caller {caller} asks {time.monotonic()}")
            except (httpx2.HTTPError, ApiError, AssertionError) as error:
                self.failed.append(repr(error))
            with self._lock:
                self.rounds += 1

    def _ask(self, client: Client, text: str) -> None:
        (known,) = client.look_up([self._page])
        assert known.status == "current", known
        body = {"id": "r", "imp": [{"id": "1"}], "site": {"page": self._page}}
        enriched = client._http.post("/v1/openrtb/enrich", json=body)  # noqa: SLF001 - bidders send it themselves
        assert enriched.status_code == 200, enriched.text
        (answer,) = client.classify([{"text": text}], tasks=[TASK])
        assert answer.status == "decided", answer
        self.answered += [decision["decision_id"] for decision in answer.decisions]
        self.versions |= {decision["model_version"] for decision in answer.decisions}


@dataclass
class Report:
    """What a server did.

    Attributes:
        rounds: rounds of requests.
        failed: requests that were not answered as they should be.
        memory: resident bytes of the server and its readers, at the start, in the middle and at the end.
        happened: what was done meanwhile.
    """

    rounds: int = 0
    failed: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)


def soak(process: subprocess.Popen[bytes], load: Load, seconds: float, steps: Mapping[str, Step]) -> Report:
    """Have steps happen at even times while a server is under load; return what it did.

    Raises:
        RuntimeError: what a step waits for has not come.
    """
    report, begun = Report(memory=[resident(process.pid)]), time.monotonic()
    for number, (name, step) in enumerate(steps.items(), 1):
        time.sleep(max(begun + seconds * number / (len(steps) + 1) - time.monotonic(), 0))
        if number == len(steps) // 2 + 1:
            report.memory.append(resident(process.pid))
        if not step():
            raise RuntimeError(f"{name}: it has not come to count")
        report.happened.append(name)
    time.sleep(max(begun + seconds - time.monotonic(), 0))
    report.memory.append(resident(process.pid))
    report.rounds, report.failed = load.rounds, load.failed
    return report


def changes(load: Load, models: Registry, keys: FileKeys, stack: Path) -> dict[str, Step]:
    """Return what happens to a server whose store is a stack of its own."""
    first = models.champion(TASK).version

    def promote() -> bool:
        promoted = head(models, Encoder(registry=models), TASK, 99).version
        return waited(lambda: promoted in load.versions)

    def restart() -> bool:
        servers.down(stack)
        servers.up(stack)
        rounds = load.rounds
        return waited(lambda: load.rounds > rounds + 2 * CALLERS)

    def roll_back() -> bool:
        promotion.roll_back(models, TASK, first, by="ada", why="complaints")
        load.versions = set()
        return waited(lambda: first in load.versions)

    def rotate() -> bool:
        (old,) = keys.all()
        _, load.key = keys.add(old.tenant, old.role)
        keys.expire(old.id, datetime.now(UTC) + timedelta(hours=1))
        done = waited(lambda: {*load.used.values()} == {load.key})
        rounds = load.rounds
        done = done and waited(lambda: load.rounds > rounds + 2 * CALLERS)
        keys.revoke(old.id)
        return done

    return {"promotion": promote, "restart of the store": restart, "rollback": roll_back, "key rotation": rotate}


def resident(pid: int) -> int:
    """Return the resident bytes of a process and those that it has started."""
    every, pages = [pid], 0
    for one in every:
        every += [
            int(child) for file in Path(f"/proc/{one}/task").glob("*/children") for child in file.read_text().split()
        ]
        pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure saturation, and soak a server at half of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as place, key_value(Path(place) / "stack") as store:
        folder = Path(place)
        kept = {"signal_store": store, "api_keys": f"{folder}/keys.json", "decision_spool": f"{folder}/spool"}
        kept |= {"mlflow_tracking_uri": f"sqlite:///{folder}/db", "mlflow_artifacts": f"{folder}/files"}
        kept |= {"model_cache": f"{folder}/cache", "lakehouse_uri": f"{folder}/lake"}
        models, keys = registry(load_settings(**kept)), FileKeys(folder / "keys.json")
        for number, task in enumerate((TASK, *OTHERS)):
            head(models, Encoder(registry=models), task, number)
        with closing(signal_store(load_settings(**kept))) as signals:
            signals.put(record(number, datetime.now(UTC)) for number in range(PAGES))
        page, (_, key) = record(0, datetime.now(UTC))["url"], keys.add(TENANT, "decisioning")
        port = free_port()
        with serving(folder, kept, port) as process:
            with Load(port, key, page) as most:
                time.sleep(SECONDS_TO_SATURATE)
                rate = most.rounds / SECONDS_TO_SATURATE
            print(f"saturation: {rate:.0f} rounds a second, each a look-up, an enrichment and a text", flush=True)
            with Load(port, key, page, rate / 2) as load:
                report = soak(process, load, minutes * 60, changes(load, models, keys, folder / "stack"))
    print(f"{report.rounds:,} rounds at half of that in {minutes:g} minutes, {len(report.failed)} failed requests")
    print(f"meanwhile: {', '.join(report.happened)}")
    print("resident at start, middle and end: " + ", ".join(f"{size / 2**20:.0f} MiB" for size in report.memory))
    for failure in report.failed[:5]:
        print(json.dumps(failure))


if __name__ == "__main__":
    main()
