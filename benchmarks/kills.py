"""Workers and the broker are killed again and again, at random moments: no event is lost and none doubled.

Usage: python -m benchmarks.kills [--events N] [--kills K]

While messages and ad events are produced, the worker that reads them is killed, and the broker, until one worker is let
to finish. Broker and object store are a local stack of their own. At the end every table is compared with what was
produced, and with what the broker holds.
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
from benchmarks.place import PARTITIONS, create_topics, durable_broker, folder, forked, produce
from devstack import servers
from resources.settings import configure, settings

# Topic, body, and the key that its row is found by; None if it is malformed.
Event = tuple[str, bytes, str | None]

KEYS = {"messages": "message_id", "ad-events": "event_id", "inventory": "snapshot_id", "user-sync": "sync_id"}
MOMENTS = {"messages": "sent_at", "ad-events": "event_time", "inventory": "observed_at", "user-sync": "synced_at"}
SHARES = {"messages": 0.02, "ad-events": 0.9, "inventory": 0.04, "user-sync": 0.04}


def events(count: int) -> list[Event]:
    """Return topic, body and key of each event; every hundredth is malformed, every fiftieth is sent twice."""
    chance, made = random.Random(0), []
    pools = {topic: [r for r in lines(topic.replace("-", "_")) if r.get(key)] for topic, key in KEYS.items()}
    for number in range(count):
        topic = chance.choices(list(SHARES), list(SHARES.values()))[0]
        name = f"k-{number:07d}"
        body = chance.choice(pools[topic]) | {KEYS[topic]: name, MOMENTS[topic]: f"{DAY}T10:00:00Z"}
        if topic == "messages":
            body |= {"text": f"{body.get('text') or 'a'} {number}", "author_id": "u-0001"}
        made.append((topic, json.dumps(body).encode(), name))
        if number % 100 == 7:
            made.append((topic, made[-1][1][:-20], None))
        if number % 50 == 3:
            made.append(made[-1] if made[-1][2] else made[-2])
    return made


def held(address: str) -> dict[str, list[bytes]]:
    """Return what the broker holds, by topic: a producer that lost its answer to a kill has sent it again."""
    from confluent_kafka import Consumer, TopicPartition

    found: dict[str, list[bytes]] = {topic: [] for topic in KEYS}
    reader = Consumer({"bootstrap.servers": address, "group.id": "compare", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, partition, 0) for topic in KEYS for partition in range(PARTITIONS)])
    ended: set[tuple[str, int]] = set()
    while len(ended) < PARTITIONS * len(KEYS):
        for message in reader.consume(1_000, timeout=1):
            if message.error() is None:
                found[message.topic()].append(message.value())
            else:
                ended.add((message.topic(), message.partition()))
    reader.close()
    return found


def life(seconds: float | None) -> int:
    """Run a worker until it has drained the topics, or for some seconds; return how it ended."""
    from serving.stream.worker import stream

    child = forked(lambda: stream(settings(), until_drained=True, log=lambda _: None))
    until = None if seconds is None else time.monotonic() + seconds
    while until is None or time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finished(child: int) -> None:
    """Wait for a fork.

    Raises:
        RuntimeError: it has failed.
    """
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("the broker did not come back, or did not take the events")


def revived(place: Path, seconds: float) -> None:
    """Kill a stack's broker after some seconds, and start it again."""
    time.sleep(seconds)
    os.kill(next(state.pid for state in servers.status(place) if state.name == "broker"), signal.SIGKILL)
    servers.up(place)


def compared(made: list[Event], kept: dict[str, list[bytes]]) -> dict[str, dict[str, Any]]:
    """Return, for each topic, what was produced beside what the broker and the tables hold."""
    import polars as pl

    from resources.lakehouse.tables import lakehouse
    from serving.stream.pipelines import PIPELINES

    tables, found = lakehouse(settings()), {}
    silver = {pipeline.topic: pipeline.last_table.replace("message_signals", "messages") for pipeline in PIPELINES}
    quarantine = tables.read("silver/quarantine")
    for pipeline in PIPELINES:
        if pipeline.topic not in KEYS:
            continue
        key, bodies = KEYS[pipeline.topic], kept[pipeline.topic]
        names = {body: name for topic, body, name in made if topic == pipeline.topic}
        bronze, last = tables.read(pipeline.bronze.table), tables.read(silver[pipeline.topic])
        unfit = quarantine.filter(pl.col("table") == pipeline.bronze.table)["row"].str.json_path_match("$.raw")
        rejected = quarantine.filter(pl.col("table") == silver[pipeline.topic])
        refused = rejected.filter(pl.col("rule") != "duplicate_key")["row"].str.json_path_match(f"$.{key}").unique()
        # Of the samples that events are made from, some break rules on purpose.
        unfit_keys = set(unfit.str.json_path_match(f"$.{key}").drop_nulls())
        fit = [name for body in bodies if (name := names[body]) and name not in unfit_keys]
        found[pipeline.topic] = {
            "produced": len([1 for topic, *_ in made if topic == pipeline.topic]),
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
    return found


def killed(place: Path, count: int, kills: int, longest: float) -> dict[str, dict[str, Any]]:
    """Produce, kill worker and broker so many times together, let a worker finish, and return the comparison.

    Args:
        place: folder of the stack that the broker is of.
        count: events.
        kills: SIGKILLs; a fourth of them the broker's.
        longest: seconds that a worker lives at most before it is killed.
    """
    import serving.stream.worker  # noqa: F401 - before the forks

    address, made = str(settings().kafka_bootstrap_servers), events(count)
    chance, ended, brokers = random.Random(1), Counter(), 0
    create_topics(address, KEYS)
    producer = forked(lambda: produce(address, [event[:2] for event in made], 0.3 * kills * longest))
    while ended[-signal.SIGKILL] + brokers < kills:
        reviver = None
        if brokers < kills // 4:
            moment = chance.uniform(0.0, longest / 2)
            reviver, brokers = forked(lambda wait=moment: revived(place, wait)), brokers + 1
        ended[life(chance.uniform(0.05, longest))] += 1
        if reviver is not None:
            finished(reviver)
    finished(producer)
    last = life(None)
    if last:
        raise RuntimeError(f"the worker that should have drained the topics ended with {last}")
    ended[last] += 1
    print(
        f"the broker was killed {brokers} times; workers' lives ended with {dict(ended)} (-9 is a kill, 0 is drained)"
    )
    return compared(made, held(address))


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds that a life lasts at most")
    asked = parser.parse_args()
    with folder() as here, durable_broker(here / "stack") as address:
        configure(kafka_bootstrap_servers=address, signal_store=f"{here}/signals", stream_events=500)
        for topic, figures in killed(here / "stack", asked.events, asked.kills, asked.longest).items():
            print(topic, figures)


if __name__ == "__main__":
    main()
