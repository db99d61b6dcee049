"""Kills of the stream worker and the broker at random times, after which no event may be lost or doubled.

Usage: python -m benchmarks.kills [--events N] [--kills K]

While events are produced, the worker and the broker are killed again and again; then one worker may finish. Broker and
object store are a local stack. At the end every table is compared with the produced events and with the broker's.
"""

import argparse
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.end_to_end import DAY, lines
from benchmarks.place import PARTITIONS, create_topics, durable_broker, folder, fork, produce
from devstack import servers
from resources.settings import configure, settings

# Topic, body, and the row's key; None if it is malformed.
Event = tuple[str, bytes, str | None]

KEYS = {"messages": "message_id", "ad-events": "event_id", "inventory": "snapshot_id", "user-sync": "sync_id"}
TIME_COLUMNS = {"messages": "sent_at", "ad-events": "event_time", "inventory": "observed_at", "user-sync": "synced_at"}
SHARES = {"messages": 0.02, "ad-events": 0.9, "inventory": 0.04, "user-sync": 0.04}


def events(count: int) -> list[Event]:
    """Return topic, body and key of each event; every hundredth is malformed, every fiftieth is sent twice."""
    chance, generated = random.Random(0), []
    pools = {topic: [r for r in lines(topic.replace("-", "_")) if r.get(key)] for topic, key in KEYS.items()}
    for number in range(count):
        topic = chance.choices(list(SHARES), list(SHARES.values()))[0]
        name = f"k-{number:07d}"
        body = chance.choice(pools[topic]) | {KEYS[topic]: name, TIME_COLUMNS[topic]: f"{DAY}T10:00:00Z"}
        if topic == "messages":
            body |= {"text": f"{body.get('text') or 'a'} {number}", "author_id": "u-0001"}
        generated.append((topic, json.dumps(body).encode(), name))
        if number % 100 == 7:
            generated.append((topic, generated[-1][1][:-20], None))
        if number % 50 == 3:
            generated.append(generated[-1] if generated[-1][2] else generated[-2])
    return generated


def stored_events(address: str) -> dict[str, list[bytes]]:
    """Return the broker's events by topic. They hold repeats: a producer sends again if a kill took the response."""
    from confluent_kafka import Consumer, TopicPartition

    bodies: dict[str, list[bytes]] = {topic: [] for topic in KEYS}
    reader = Consumer({"bootstrap.servers": address, "group.id": "compare", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, partition, 0) for topic in KEYS for partition in range(PARTITIONS)])
    ended: set[tuple[str, int]] = set()
    while len(ended) < PARTITIONS * len(KEYS):
        for message in reader.consume(1_000, timeout=1):
            if message.error() is None:
                bodies[message.topic()].append(message.value())
            else:
                ended.add((message.topic(), message.partition()))
    reader.close()
    return bodies


def run_worker(seconds: float | None) -> int:
    """Run a worker until it has drained the topics, or kill it after some seconds; return its exit code."""
    from serving.stream.worker import stream

    child = fork(lambda: stream(settings(), until_drained=True, log=lambda _: None))
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(child: int) -> None:
    """Wait for a fork.

    Raises:
        RuntimeError: the fork failed.
    """
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("the broker did not come back, or did not take the events")


def restart_broker(stack: Path, seconds: float) -> None:
    """Kill a stack's broker after some seconds, and start it again."""
    time.sleep(seconds)
    os.kill(next(state.pid for state in servers.status(stack) if state.name == "broker"), signal.SIGKILL)
    servers.up(stack)


def compare(produced: list[Event], stored: dict[str, list[bytes]]) -> dict[str, dict[str, Any]]:
    """Return counts by topic: of produced events, and of those that the broker and the tables hold."""
    import polars as pl

    from resources.lakehouse.tables import lakehouse
    from serving.stream.pipelines import PIPELINES

    tables, counts = lakehouse(settings()), {}
    silver = {pipeline.topic: pipeline.last_table.replace("message_signals", "messages") for pipeline in PIPELINES}
    quarantine = tables.read("silver/quarantine")
    for pipeline in PIPELINES:
        if pipeline.topic not in KEYS:
            continue
        key, bodies = KEYS[pipeline.topic], stored[pipeline.topic]
        names = {body: name for topic, body, name in produced if topic == pipeline.topic}
        bronze, last = tables.read(pipeline.bronze.table), tables.read(silver[pipeline.topic])
        unfit = quarantine.filter(pl.col("table") == pipeline.bronze.table)["row"].str.json_path_match("$.raw")
        rejected = quarantine.filter(pl.col("table") == silver[pipeline.topic])
        refused = rejected.filter(pl.col("rule") != "duplicate_key")["row"].str.json_path_match(f"$.{key}").unique()
        # Some of the samples that events are made from break rules on purpose.
        unfit_keys = set(unfit.str.json_path_match(f"$.{key}").drop_nulls())
        fit = [name for body in bodies if (name := names[body]) and name not in unfit_keys]
        counts[pipeline.topic] = {
            "produced": len([1 for topic, *_ in produced if topic == pipeline.topic]),
            "held": len(bodies),
            "bronze": bronze.height,
            "bronze_quarantined": len(unfit),
            "places_twice": bronze.height - bronze.select("source", "position").n_unique(),
            "distinct": len(set(fit)),
            "silver": last.height,
            "silver_quarantined": rejected.height,
            "same": set(bodies) == set(names)
            and bronze.height + len(unfit) == len(bodies)
            and Counter(bronze[key]) == Counter(fit)
            and last.height + rejected.height == bronze.height
            and sorted([*last[key], *refused]) == sorted(set(fit)),
        }
    return counts


def run_with_kills(stack: Path, count: int, kills: int, longest: float) -> dict[str, dict[str, Any]]:
    """Produce events, kill worker and broker, let a worker finish, and return the comparison.

    Args:
        stack: folder of the broker's stack.
        count: number of events.
        kills: number of SIGKILLs, a quarter of them for the broker.
        longest: seconds that a worker lives at most before it is killed.
    """
    import serving.stream.worker  # noqa: F401 - before the forks

    address, to_produce = str(settings().kafka_bootstrap_servers), events(count)
    chance, ended, brokers = random.Random(1), Counter(), 0
    create_topics(address, KEYS)
    producer = fork(lambda: produce(address, [event[:2] for event in to_produce], 0.3 * kills * longest))
    while ended[-signal.SIGKILL] + brokers < kills:
        restart = None
        if brokers < kills // 4:
            delay = chance.uniform(0.0, longest / 2)
            restart, brokers = fork(lambda seconds=delay: restart_broker(stack, seconds)), brokers + 1
        ended[run_worker(chance.uniform(0.05, longest))] += 1
        if restart is not None:
            wait_for(restart)
    wait_for(producer)
    last = run_worker(None)
    if last:
        raise RuntimeError(f"the worker that should have drained the topics ended with {last}")
    ended[last] += 1
    print(
        f"the broker was killed {brokers} times; workers' lives ended with {dict(ended)} (-9 is a kill, 0 is drained)"
    )
    return compare(to_produce, stored_events(address))


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds that a life lasts at most")
    arguments = parser.parse_args()
    with folder() as home, durable_broker(home / "stack") as address:
        configure(kafka_bootstrap_servers=address, signal_store=f"{home}/signals", stream_events=500)
        for topic, counts in run_with_kills(
            home / "stack", arguments.events, arguments.kills, arguments.longest
        ).items():
            print(topic, counts)


if __name__ == "__main__":
    main()
