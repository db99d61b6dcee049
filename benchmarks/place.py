"""Where a benchmark works: a folder with tables, models and runs of its own, and servers of its own beside them."""

import logging
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from resources import stack
from resources.settings import PROJECT, Settings


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


def create_topics(address: str, topics: list[str], partitions: int) -> None:
    """Create topics on a broker."""
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": address})
    for done in client.create_topics([NewTopic(topic, partitions, 1) for topic in topics]).values():
        done.result()
