"""How fast a backlog is drained: ad events, which need no model, and pages, which need all of them.

Usage: python -m benchmarks.ingest [--events 200000] [--pages 1000]

Beside each rate stands what the machine can do with the same records: the client library reading the same topic, and
one write_deltalake of the same rows. The worker's memory is looked at while it drains.
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
    """Return ad events of one day, each with a key of its own."""
    chance, pool = random.Random(0), [record for record in lines("ad_events") if record.get("event_id")]
    moment = f"{DAY}T{{:02d}}:00:00Z"
    return [
        json.dumps(chance.choice(pool) | {"event_id": f"i-{number}", "event_time": moment.format(number % 24)}).encode()
        for number in range(count)
    ]


def read_raw(address: str, topic: str, count: int) -> float:
    """Return the seconds that the client library takes to read a topic."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "raw"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    began, seen = time.perf_counter(), 0
    while seen < count:
        seen += len(consumer.consume(10_000, timeout=0.05))
    consumer.close()
    return time.perf_counter() - began


def write_raw(table: str) -> float:
    """Return the seconds that one write of a table's rows into another table takes."""
    from deltalake import write_deltalake

    from resources.lakehouse.tables import lakehouse

    rows = lakehouse(settings()).read(table)
    began = time.perf_counter()
    write_deltalake(f"raw/{table}", rows)
    return time.perf_counter() - began


def drain() -> tuple[float, list[int]]:
    """Drain all topics; return the seconds that it took and this process's memory meanwhile, MiB."""
    from serving.stream.worker import stream

    over, seen = threading.Event(), []

    def look() -> None:
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        seen.append(resident * os.sysconf("SC_PAGE_SIZE") // MIB)

    def watch() -> None:
        look()
        while not over.wait(0.5):
            look()
        look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        stream(settings(), until_drained=True, log=lambda _: None)
    finally:
        over.set()
        watcher.join()
    return time.perf_counter() - began, seen


def main() -> None:
    """Train, fill the topics one after the other, drain, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--pages", type=int, default=1_000)
    asked = parser.parse_args()
    with folder() as here, durable_broker(here / "stack") as address:
        configure(landing=SAMPLES, kafka_bootstrap_servers=address)
        from serving.cli.run import run

        run(lambda *_: None)
        backlogs = {
            "ad-events": ("silver/ad_events", ad_events(asked.events)),
            "pages": ("silver/pages", [json.dumps(page).encode() for page in pages("drain", asked.pages)]),
        }
        create_topics(address, backlogs)
        for topic, (table, bodies) in backlogs.items():
            produce(address, [(topic, body) for body in bodies])
            os.sync()  # else the kernel writes what was produced while it is read
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
