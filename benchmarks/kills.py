"""A worker that is killed again and again, at random moments, loses no event and doubles none.

Usage: python -m benchmarks.kills [--events N] [--kills K] --broker host:port

Messages and ad events are produced, and workers that read them are killed until one is let to finish. Each life is a
fork of this process, which has the imports behind it. At the end every table is compared with what was produced.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.end_to_end import DAY, lines
from resources.settings import configure, settings

KEYS = {"messages": "message_id", "ad-events": "event_id", "inventory": "snapshot_id", "user-sync": "sync_id"}
MOMENTS = {"messages": "sent_at", "ad-events": "event_time", "inventory": "observed_at", "user-sync": "synced_at"}
SHARES = {"messages": 0.02, "ad-events": 0.9, "inventory": 0.04, "user-sync": 0.04}
PARTITIONS = 2


def events(count: int) -> list[tuple[str, bytes, str | None]]:
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


def produce(broker: str, made: list[tuple[str, bytes, str | None]]) -> None:
    """Send the events, in order, to both partitions of their topics."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    topics = [NewTopic(topic, PARTITIONS, 1) for topic in KEYS]
    client = AdminClient({"bootstrap.servers": broker})
    for done in client.create_topics(topics).values():
        done.result()
    producer = Producer({"bootstrap.servers": broker, "acks": "all"})
    for number, (topic, body, _) in enumerate(made):
        producer.produce(topic, body, partition=number % PARTITIONS)
        if number % 1_000 == 0:
            producer.flush()
    producer.flush()


def life(seconds: float | None) -> int:
    """Run a worker in a fork until it has drained the topics, or for some seconds; return how it ended."""
    child = os.fork()
    if child == 0:
        from serving.stream import stream

        try:
            stream(settings(), until_drained=True, say=lambda _: None)
        except BaseException as error:  # noqa: BLE001 - a fork must never return into its parent's code
            os.write(2, f"worker: {type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    until = None if seconds is None else time.monotonic() + seconds
    while until is None or time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def compared(made: list[tuple[str, bytes, str | None]]) -> dict[str, dict[str, Any]]:
    """Return, for each topic, what was produced beside what the tables hold."""
    import polars as pl

    from platform_assets.streaming import FLOWS
    from resources.lakehouse import lakehouse

    tables, found = lakehouse(settings()), {}
    silver = {flow.topic: flow.last.replace("message_signals", "messages") for flow in FLOWS}
    quarantine = tables.read("silver/quarantine")
    for flow in FLOWS:
        if flow.topic not in KEYS:
            continue
        key = KEYS[flow.topic]
        bronze, last = tables.read(flow.bronze.table), tables.read(silver[flow.topic])
        unfit = quarantine.filter(pl.col("table") == flow.bronze.table)["row"].str.json_path_match("$.raw")
        rejected = quarantine.filter(pl.col("table") == silver[flow.topic])
        refused = rejected.filter(pl.col("rule") != "duplicate_key")["row"].str.json_path_match(f"$.{key}").unique()
        produced = [name for topic, _, name in made if topic == flow.topic]
        # Of the samples that events are made from, some break rules on purpose.
        unfit_keys = set(unfit.str.json_path_match(f"$.{key}").drop_nulls())
        sent = [name for name in produced if name and name not in unfit_keys]
        found[flow.topic] = {
            "produced": len(produced),
            "bronze": bronze.height,
            "bronze_quarantined": len(unfit),
            "places_twice": bronze.height - bronze.select("source", "position").n_unique(),
            "distinct": len(set(sent)),
            "silver": last.height,
            "silver_quarantined": rejected.height,
            "same": bronze.height + len(unfit) == len(produced)
            and Counter(bronze[key]) == Counter(sent)
            and last.height + rejected.height == bronze.height
            and sorted([*last[key], *refused]) == sorted(set(sent)),
        }
    return found


def killed(broker: str, count: int, kills: int, longest: float) -> dict[str, dict[str, Any]]:
    """Produce, kill a worker so many times, let one finish, and return the comparison."""
    import serving.stream  # noqa: F401 - before the forks

    made = events(count)
    produce(broker, made)
    chance, ended = random.Random(1), Counter()
    for _ in range(kills):
        ended[life(chance.uniform(0.05, longest))] += 1
    ended[life(None)] += 1
    print(f"lives ended with {dict(ended)} (-9 is a kill, 0 is drained)")
    return compared(made)


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds that a life lasts at most")
    parser.add_argument("--broker", required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["DAGSTER_HOME"] = folder
        for name in ("LAKEHOUSE_URI", "MLFLOW_TRACKING_URI", "MLFLOW_ARTIFACTS", "MODEL_CACHE"):
            os.environ.pop(name, None)
        configure(kafka_bootstrap_servers=asked.broker, signal_store=str(Path(folder, "signals")), stream_events=500)
        for topic, figures in killed(asked.broker, asked.events, asked.kills, asked.longest).items():
            print(topic, figures)


if __name__ == "__main__":
    main()
