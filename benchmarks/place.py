"""Where a benchmark works: a folder with tables, models and runs of its own, and servers of its own beside them."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from resources import stack
from resources.settings import PROJECT, Settings

PARTITIONS = 2
PATIENCE = 600


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


@contextmanager
def broker(servers: Path) -> Generator[str]:
    """Run a local stack in a folder, and give the address of its broker."""
    stack.up(servers)
    try:
        yield stack.environment(servers)["KAFKA_BOOTSTRAP_SERVERS"]
    finally:
        stack.down(servers)


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
