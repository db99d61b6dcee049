"""Seconds from a page event at the broker to its signals in the store, under a steady load: p50 and p95.

Usage: python -m benchmarks.freshness [--rate 50] [--seconds 60]

The models are trained on the samples first, and this is not measured. Every page has a new address and a new text, so
no vector is cached. The worker is `seamless stream` in its own process; producer and broker share its CPU cores.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.end_to_end import SAMPLES, lines
from benchmarks.place import broker, create_topics, environment, folder
from resources.settings import configure
from resources.signal_store.entries import store_key
from resources.signal_store.stores import LocalStore
from signals.documents.urls import canonical_url as page_address

WARM_UP_SECONDS = 20
TIMEOUT_SECONDS = 120


def pages(name: str, count: int) -> list[dict[str, str]]:
    """Return new pages: those of the samples, each with a new address and a few unique words."""
    chance = random.Random(0)
    pool = [record for record in lines("pages") if isinstance(record, dict) and "</p>" in str(record.get("html"))]
    return [
        {
            "url": f"https://{name}-{number % 40}.example/story-{number}",
            "html": chance.choice(pool)["html"].replace("</p>", f" Report {name} {number}.</p>", 1),
            "tenant_id": "meridian",
        }
        for number in range(count)
    ]


def latencies(name: str, address: str, store: LocalStore, rate: float, seconds: float) -> list[float]:
    """Send pages at a steady rate, and return the seconds until the store had each."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "linger.ms": 5})
    to_send, pending, measured = pages(name, int(rate * seconds)), {}, []
    started, sent, last = time.monotonic(), 0, time.monotonic()
    while sent < len(to_send) or (pending and time.monotonic() - last < TIMEOUT_SECONDS):
        due = min(len(to_send), int((time.monotonic() - started) * rate))
        for page in to_send[sent:due]:
            body = page | {"fetched_at": datetime.now(UTC).isoformat()}
            producer.produce("pages", json.dumps(body).encode(), partition=sent % 2)
            pending[page_address(page["url"])] = last = time.monotonic()
            sent += 1
        producer.poll(0)
        for url in list(pending)[:50]:
            if store.get_many([store_key("meridian", url)]) == [None]:
                break  # pages are published in order, so the next are not there yet
            measured.append(time.monotonic() - pending.pop(url))
        time.sleep(0.02)
    print(f"{sent} pages sent, {len(pending)} not seen")
    return measured


def main() -> None:
    """Train, start a worker, send, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    with folder(), broker() as address:
        configure(landing=SAMPLES)
        from serving.cli.run import run

        run(lambda *_: None)
        create_topics(address, ["pages"])
        command = [Path(sys.executable).with_name("seamless"), "stream"]
        variables = environment(KAFKA_BOOTSTRAP_SERVERS=address)
        with Path("worker.log").open("w") as log, closing(LocalStore(Path(".signals"))) as store:
            worker = subprocess.Popen(command, env=variables, stderr=log, stdout=log)
            try:
                latencies("warm", address, store, 2, WARM_UP_SECONDS)
                measured = latencies("news", address, store, arguments.rate, arguments.seconds)
            finally:
                worker.terminate()
                worker.wait()
        print(Path("worker.log").read_text()[-600:])
    p50, p95 = np.percentile(measured, [50, 95])
    print(f"{arguments.rate:g} pages a second for {arguments.seconds:g} s, from event to published signal: ", end="")
    print(f"p50 {p50:.2f} s, p95 {p95:.2f} s")


if __name__ == "__main__":
    main()
