"""9,000 messages and 15,000 ad events of one day, from landed files to reports: seconds, and the share of encoding.

Usage: python -m benchmarks.end_to_end [--messages N] [--events N]

The models are trained on the samples first, and this is not measured. The day's messages are new texts, each from the
halves of two sample messages, so that no vector is cached. Its events are those of the samples, moved to the day.
"""

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.place import folder
from resources.settings import PROJECT, configure

DAY = "2026-11-16"
SAMPLES = PROJECT / "samples"


def lines(folder: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a folder of the samples that are JSON objects."""
    for path in sorted((SAMPLES / folder).glob("*.jsonl*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in data.decode("utf-8", "replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def land(landing: Path, messages: int, events: int) -> None:
    """Write a day's messages and events of all four kinds into a landing folder."""
    chance = random.Random(0)
    texts = [record["text"].split() for record in lines("messages")]
    rows = []
    for number in range(messages):
        head, tail = chance.choice(texts), chance.choice(texts)
        text = " ".join(head[: len(head) // 2 + 1] + tail[len(tail) // 2 :])
        sent_at = f"{DAY}T{number * 86_399 // messages // 3600:02d}:{number % 60:02d}:{number % 59:02d}Z"
        rows.append(
            {
                "message_id": f"b-{number:06d}",
                "author_id": f"u-{number % 120 + 1:04d}",
                "text": f"{text} {number}",
                "sent_at": sent_at,
                "platform": "chirper",
                "tenant_id": "meridian",
            }
        )
    write(landing / "messages" / "day.jsonl", rows)
    times = {
        "ad_events": "event_time",
        "inventory": "observed_at",
        "rtb_auctions": "auction_time",
        "user_sync": "synced_at",
    }
    ids = {"ad_events": "event_id", "inventory": "snapshot_id", "rtb_auctions": "auction_id", "user_sync": "sync_id"}
    for kind, time_column in times.items():
        pool = [
            record
            for record in lines(kind)
            if record.get(ids[kind]) and str(record.get(time_column)).startswith("2026-11-1")
        ]
        count = events * 3 // 4 if kind == "ad_events" else events // 12
        moved = [
            record | {ids[kind]: f"b-{number:06d}", time_column: DAY + record[time_column][10:]}
            for number, record in enumerate(chance.choices(pool, k=count))
        ]
        write(landing / kind / "day.jsonl", moved)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Prepare, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=9_000)
    parser.add_argument("--events", type=int, default=15_000)
    arguments = parser.parse_args()
    with folder() as home:
        configure(landing=SAMPLES)
        from serving.cli.run import run

        run(lambda *_: None)
        landing = home / "landing"
        land(landing, arguments.messages, arguments.events)
        configure(landing=landing)
        started = time.perf_counter()
        report = run(lambda *_: None)
        seconds = time.perf_counter() - started
    steps = {step.asset: step.metadata for step in report.steps}
    encoded, encoding = steps["silver/embeddings"]["rows_encoded"], steps["silver/embeddings"]["seconds"]
    for step in sorted(report.steps, key=lambda step: -step.metadata.get("seconds", 0))[:12]:
        print(f"{step.metadata.get('seconds', 0):8.2f} s  {step.asset}")
    print(f"{arguments.messages} messages and {arguments.events} events of one day, files to reports: {seconds:.1f} s")
    print(
        f"encoding {encoded} texts: {encoding:.1f} s, {encoding / seconds:.0%} of it, {encoded / encoding:.0f} texts/s"
    )


if __name__ == "__main__":
    main()
