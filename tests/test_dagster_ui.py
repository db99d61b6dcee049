"""The graph as a person meets it: served by Dagster's web server, without a lake, and looked at in a browser."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from resources.settings import PROJECT
from tests.support import OF_COMMANDS

pytestmark = pytest.mark.slow

GROUPS = ("bronze", "silver", "gold", "published", "reports", "models", "operations")
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60  # seconds, on a busy machine
LOCATIONS = """{ workspaceOrError { __typename ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
ASSETS = """{ assetNodes {
    assetKey { path } groupName description partitionDefinition { description }
    owners { ... on TeamAssetOwner { team } } dependencyKeys { path } dependedByKeys { path } } }"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Dagster's web server on the repository's workspace, with state of its own; its address."""
    home = tmp_path_factory.mktemp("dagster")
    shutil.copy(PROJECT / "dagster.yaml", home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, log = Path(sys.executable).with_name("dagster-webserver"), home / "log"
    # It works in a folder of its own, so a lake, a registry or a .env of the developer is not found.
    with log.open("w") as told:
        process = subprocess.Popen(
            [program, "-w", PROJECT / "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=home,
            env={**os.environ, "DAGSTER_HOME": str(home), "LAKEHOUSE_URI": str(home / "lake")},
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_it_serves(process, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def wait_until_it_serves(process, address, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            return urllib.request.urlopen(f"{address}/server_info", timeout=5).close()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    return pytest.fail(f"dagster-webserver does not serve:\n{log.read_text()}")


def stop(process):
    """End it and the code server that it started, gently, then for certain."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ask(server, query):
    body, kind = json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{server}/graphql", body, kind), timeout=PATIENCE) as answer:
        said = json.load(answer)
    assert "errors" not in said
    return said["data"]


@pytest.fixture(scope="module")
def assets(server):
    return {"/".join(node["assetKey"]["path"]): node for node in ask(server, ASSETS)["assetNodes"]}


def test_the_code_location_loads(server):
    [location] = ask(server, LOCATIONS)["workspaceOrError"]["locationEntries"]
    loaded = {"__typename": "RepositoryLocation"}
    assert location == {"name": "seamless", "loadStatus": "LOADED", "locationOrLoadError": loaded}


def test_every_asset_is_connected(assets):
    alone = {key for key, node in assets.items() if not (node["dependencyKeys"] or node["dependedByKeys"])}
    assert alone - OF_COMMANDS == set()


def test_every_asset_reads_only_what_is_an_asset(assets):
    read = {"/".join(key["path"]) for node in assets.values() for key in node["dependencyKeys"]}
    assert read - set(assets) == set()


def test_every_asset_is_described_and_owned(assets):
    assert [key for key, node in assets.items() if not (node["description"] or "").strip()] == []
    assert [key for key, node in assets.items() if not any(owner.get("team") for owner in node["owners"])] == []


def test_every_asset_is_in_the_group_of_its_layer(assets):
    assert {node["groupName"] for node in assets.values()} == set(GROUPS)
    assert [key for key, node in assets.items() if key.split("/")[0] != node["groupName"]] == []


def test_every_table_says_what_a_row_is(assets):
    tables = {key: node["description"] for key, node in assets.items() if node["groupName"] != "models"}
    assert [key for key, said in tables.items() if not ("One row is" in said and "Key:" in said)] == []


def test_tables_from_silver_on_have_a_partition_a_day(assets):
    of_days = {key: node for key, node in assets.items() if node["groupName"] in ("silver", "gold", "reports")}
    daily = {
        key
        for key, node in of_days.items()
        if node["partitionDefinition"] and node["partitionDefinition"]["description"].startswith("Daily")
    }
    assert set(of_days) - daily == {"silver/quarantine"}  # every write of any day adds to it


@pytest.fixture
def page():
    """A page of a browser without a window; it closes with the test, which fails if a script on the page did."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    faults = []
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        yield page
    assert faults == []


def test_the_lineage_page_shows_every_group(server, page, tmp_path):
    page.goto(f"{server}/asset-groups", wait_until="domcontentloaded")
    for group in GROUPS:
        page.locator("svg foreignObject").get_by_text(group, exact=True).wait_for()
    page.screenshot(path=tmp_path / "lineage.png")
    said = page.inner_text("body").lower()
    assert "global asset lineage" in said
    assert "error" not in said
    assert "failed" not in said


def test_an_asset_has_a_page_that_says_what_it_is(server, page, tmp_path):
    page.goto(f"{server}/assets/gold/contextual_signals", wait_until="domcontentloaded")
    page.get_by_text("One row is one web page").first.wait_for()
    page.screenshot(path=tmp_path / "asset.png")
