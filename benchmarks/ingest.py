"""Throughput of the stream on a backlog: of ad events, which need no model, and of pages, which need every model.

Usage: python -m benchmarks.ingest [--events 200000] [--pages 1000]

Each rate is printed beside two upper bounds for the same records: the client library reading the topic, and one
write_deltalake of the rows. The worker's memory is sampled while it drains.
"""

import argparse
import json
import os
import random
import threading
import time
from pathlib import Path

from benchmarks.end_to_end import DAY, SAMPLES, lines
from benchmarks.freshness import pages
from benchmarks.place import PARTITIONS, create_topics, durable_broker, folder, produce
from resources.settings import configure, settings

MIB = 1 << 20


def ad_events(count: int) -> list[bytes]:
    """Return ad events of one day, each with a unique key."""
    chance, pool = random.Random(0), [record for record in lines("ad_events") if record.get("event_id")]
    events = (
        chance.choice(pool) | {"event_id": f"i-{number}", "event_time": f"{DAY}T{number % 24:02d}:00:00Z"}
        for number in range(count)
    )
    return [json.dumps(event).encode() for event in events]


def read_raw(address: str, topic: str, count: int) -> float:
    """Return the seconds that the client library takes to read a topic."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "raw"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    started, read = time.perf_counter(), 0
    while read < count:
        read += len(consumer.consume(10_000, timeout=0.05))
    consumer.close()
    return time.perf_counter() - started


def write_raw(table: str) -> float:
    """Return the seconds that one write of a table's rows into another table takes."""
    from deltalake import write_deltalake

    from resources.lakehouse.tables import lakehouse

    rows = lakehouse(settings()).read(table)
    started = time.perf_counter()
    write_deltalake(f"raw/{table}", rows)
    return time.perf_counter() - started


def drain() -> tuple[float, list[int]]:
    """Drain all topics; return the seconds and samples of this process's memory in MiB."""
    from serving.stream.worker import stream

    finished, memory = threading.Event(), []

    def sample() -> None:
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(resident * os.sysconf("SC_PAGE_SIZE") // MIB)

    def watch() -> None:
        sample()
        while not finished.wait(0.5):
            sample()
        sample()

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        stream(settings(), until_drained=True, log=lambda _: None)
    finally:
        finished.set()
        watcher.join()
    return time.perf_counter() - started, memory


def main() -> None:
    """Train, fill the topics one after the other, drain, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--pages", type=int, default=1_000)
    arguments = parser.parse_args()
    with folder() as home, durable_broker(home / "stack") as address:
        configure(landing=SAMPLES, kafka_bootstrap_servers=address)
        from serving.cli.run import run

        run(lambda *_: None)
        backlogs = {
            "ad-events": ("silver/ad_events", ad_events(arguments.events)),
            "pages": ("silver/pages", [json.dumps(page).encode() for page in pages("drain", arguments.pages)]),
        }
        create_topics(address, backlogs)
        for topic, (table, bodies) in backlogs.items():
            produce(address, [(topic, body) for body in bodies])
            os.sync()  # else the kernel writes the broker's files during the measurement
            raw = len(bodies) / read_raw(address, topic, len(bodies))
            seconds, memory = drain()
            written = len(bodies) / write_raw(table)
            rate = len(bodies) / seconds
            print(
                f"{topic}: {len(bodies)} drained in {seconds:.1f} s, {rate:,.0f} a second; read raw {raw:,.0f},"
                f" written raw {written:,.0f} a second: {rate / min(raw, written):.1%} of the slower"
            )
            half = len(memory) // 2
            print(f"  memory: {max(memory[:half])} MiB at most in the first half, {max(memory[half:])} in the second")


if __name__ == "__main__":
    main()
