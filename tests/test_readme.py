"""Every command that the README shows does what the README says."""

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from devstack import servers
from governance import catalog
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.settings import PROJECT, load_settings
from signals.tasks import TASKS
from tests.conftest import SEAMLESS, environment, execute, instance, make
from tests.support.graph import Graph

pytestmark = pytest.mark.slow
README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
CALLS = re.findall(r"^\$ (curl (?:.*\\\n)*.*)$", README, re.MULTILINE)
OF_MAKE = {"make run", "make test", "make dev", "make run INPUT=DIR", "make run STACK=1"}
OF_THE_STACK = ".venv/bin/seamless stack up"
TAUGHT = ("hate", "irony")
TEXTS = ("No hurry, have a look at note {} some day.", "The server is down, fix it right now, ticket {}!")
ROWS_IN = {"silver/quarantine", "operations/schema_drift", *catalog.names("gold"), *catalog.names("reports")}


def test_the_commands_of_make_are_those_tested_here():
    assert {command for command in COMMANDS if command.startswith("make")} == OF_MAKE


def test_make_run_ends_with_what_there_is_now(home: Path):
    said = (home / "first_run.txt").read_text()
    assert all(name in said for name in ("rows in", "quarantined", "iab_category", "Reports", "Next"))


def test_what_make_run_says_comes_next_works_as_it_is_typed(home: Path):
    _, said = (home / "first_run.txt").read_text().split("Next", 1)
    commands = re.findall(r"^ +(\S*seamless (?:sql|models) .+)$", said, re.MULTILINE)
    assert len(commands) == 2
    for command in {*commands} - {*COMMANDS}:
        assert answered(home, command)


@pytest.mark.parametrize("command", sorted({*COMMANDS} - OF_MAKE - {OF_THE_STACK}))
def test_a_command_answers(home: Path, command: str):
    assert answered(home, command)


def answered(home: Path, command: str) -> str:
    """Return what a command says that is typed as after `make run`: no environment is activated."""
    ran = execute(["env", "PATH=/usr/bin:/bin", "bash", "-o", "pipefail", "-c", command], home, cwd=PROJECT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def land_a_few(graph: Graph) -> None:
    """Have the first lines of the first files of the samples land, and answers that teach two tasks."""
    for folder in (PROJECT / "samples").iterdir():
        for path in sorted(folder.glob("*.jsonl*"))[:2] if folder.name != "labels" else ():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            graph.land(f"{folder.name}/{path.name.removesuffix('.gz')}", map(json.loads, data.splitlines()[:25]))
    broken = {"message_id": "without a text", "sent_at": "2026-11-09T08:00:00Z", "undeclared": 1}
    graph.land("messages/broken.jsonl", [broken])
    taught = [
        {"task": task, "label": label, "text": text.format(n), "labelled_at": "2026-11-10T08:00:00Z"}
        for task in TAUGHT
        for n in range(60)
        for label, text in zip(TASKS[task].labels, TEXTS, strict=True)
    ]
    graph.land("labels/labels.jsonl", [one | {"label_id": f"l-{n}"} for n, one in enumerate(taught)])


# What tells when and by which run a row was made, and how long that took.
OF_THE_RUN = {
    *("read_at", "commit", "commit_before", "state"),
    *("received_at", "run_id", "trained_at", "promoted_at", "moved_at", "decided_at", "answered_at", "measured_at"),
    *("first_seen", "landed_first", "landed_last", "seconds_p50", "seconds_p95", "seconds_max", "seconds_last"),
    "card",
}


def rows_of(lake: Lakehouse) -> dict[str, list[str]]:
    """Return the rows of each table, without what is of the run."""
    found = {table: lake.read(table) for table in catalog.tables() if lake.exists(table)}
    return {
        table: sorted(map(str, rows.select(sorted(set(rows.columns) - OF_THE_RUN)).rows()))
        for table, rows in found.items()
    }


def test_make_run_on_the_stack_gives_the_rows_that_a_folder_gives(tmp_path: Path, blank: Path):
    if shutil.which("weed", path=Path(sys.executable).parent) is None:
        pytest.skip("the servers' wheels are not installed")
    own, far, folder = Graph(tmp_path / "own"), tmp_path / "far", tmp_path / "stack"
    land_a_few(own)
    far.mkdir()
    instance(far)
    for home in (own.folder, far):
        shutil.copy(blank, home / "mlflow.db")
    own.run()
    local = rows_of(own.lake)
    try:
        ran = make(far, "run", "STACK=1", f"STACK_FOLDER={folder}", f"INPUT={own.landing}")
        assert ran.returncode == 0, ran.stderr
        with pytest.MonkeyPatch.context() as patch:
            for name, value in servers.environment(folder).items():
                patch.setenv(name, value)
            remote = rows_of(lakehouse(load_settings()))
    finally:
        servers.down(folder)
    assert {table for table, rows in local.items() if rows} >= ROWS_IN
    assert len(local["silver/decisions"]) > 100
    assert len(local["operations/promotions"]) == len(TAUGHT)
    assert remote.keys() == local.keys()
    for table, rows in local.items():
        assert remote[table] == rows, table


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_api_answers_every_call(home: Path, tmp_path: Path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "bid_request.json").write_text('{"id": "r", "imp": [{"id": "1"}], "site": {"domain": "a.example"}}')
    port, own = free_port(), {"API_KEYS": str(tmp_path / "keys.json"), "DECISION_SPOOL": str(tmp_path / "decisions")}
    made = subprocess.run(
        [SEAMLESS, "serve", "keys", "add", "--tenant", "meridian"],
        cwd=home, env=environment(home) | own, capture_output=True, text=True, check=True,
    )  # fmt: skip
    server = subprocess.Popen(
        [SEAMLESS, "serve", "--port", str(port)], cwd=home, env=environment(home) | own,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _served(f"http://127.0.0.1:{port}/readyz", server)
        assert len(CALLS) == 4
        for call in CALLS:
            command = call.replace("curl", "curl --silent --show-error --fail-with-body", 1).replace(
                ":8000", f":{port}"
            )
            ran = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env={"PATH": os.environ["PATH"], "KEY": made.stdout.strip()},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, (call, ran.stdout, ran.stderr)
            assert json.loads(ran.stdout)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def test_make_dev_opens_the_graph(home: Path):
    port = free_port()
    command = ["make", "dev", f"PORT={port}", f"DAGSTER_HOME={home}"]
    dev = subprocess.Popen(
        command, cwd=PROJECT, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert "dagster_webserver_version" in _served(f"http://127.0.0.1:{port}/server_info", dev)
    finally:
        os.killpg(dev.pid, signal.SIGINT)
        dev.wait(timeout=60)


def _served(url: str, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 90
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.5)
    return pytest.fail(f"{url} is not served; make dev ended with {process.poll()}")
