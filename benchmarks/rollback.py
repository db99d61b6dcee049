"""Seconds from `seamless models rollback` to the first decision by the old version, in the stream and in batch.

Usage: python -m benchmarks.rollback [--rollbacks 3]

The models are trained on the samples first, and this is not measured. Version 2 of a task is version 1 with a lower
temperature. While messages arrive at a steady rate, it is promoted, then rolled back by the command in its own process,
whose start is measured too. For batch, a file lands before the command, and `seamless run` follows it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from benchmarks.end_to_end import SAMPLES
from benchmarks.place import broker, create_topics, environment, folder, produce
from governance.gates.promotion import Verdict
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.registry import promotion
from resources.registry.models import Registry, registry
from resources.registry.versions import promotion_log
from resources.settings import configure, settings

TASK = "threat"
RATE = 5.0
TIMEOUT_SECONDS = 120
SEAMLESS = Path(sys.executable).with_name("seamless")


def message(name: str) -> dict[str, str]:
    """Return a message that nobody has sent before."""
    text = f"The harbour bridge opens at noon, they say; number {name}."
    return {"message_id": name, "author_id": "u-1", "text": text, "sent_at": datetime.now(UTC).isoformat()}


def second_version(models: Registry) -> None:
    """Register version 2 of the task."""
    first = models.champion(TASK)
    files = Path(shutil.copytree(models.fetch(first), "second"))
    description = json.loads((files / "model.json").read_text())
    (files / "model.json").write_text(json.dumps(description | {"temperature": description["temperature"] * 0.9}))
    second = models.register(TASK, files, first.metrics, first.record)
    models.judge(second, Verdict(passed=True, why="as good", against=1))


def first_decision(tables: Lakehouse, version: int, served_by: str, since: datetime) -> datetime:
    """Wait for the first decision by a version after a timestamp; return its time."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    condition = (
        (pl.col("task") == TASK)
        & (pl.col("model_version") == version)
        & (pl.col("served_by") == served_by)
        & (pl.col("decided_at") > since)
    )
    while time.monotonic() < deadline:
        decisions = tables.scan("silver/decisions").filter(condition)
        decided_at = decisions.select(pl.col("decided_at").min()).collect().item()
        if decided_at is not None:
            return decided_at
        time.sleep(0.3)
    raise TimeoutError(f"no decision by version {version} within {TIMEOUT_SECONDS} s")


def roll_back() -> datetime:
    """Run the command; return its start time."""
    started = datetime.now(UTC)
    subprocess.run([SEAMLESS, "models", "rollback", TASK, "--why", "benchmark"], check=True, stdout=subprocess.DEVNULL)
    return started


def report(models: Registry, tables: Lakehouse, served_by: str, started: datetime) -> None:
    """Print the seconds until the champion had moved, and until the first decision by it."""
    moved = promotion_log(models.versions(TASK))[-1].at
    decided = first_decision(tables, 1, served_by, moved)
    seconds, until_moved = (decided - started).total_seconds(), (moved - started).total_seconds()
    print(f"{served_by}: {seconds:.1f} s from the command to the first decision by the old version, ", end="")
    print(f"{until_moved:.1f} s of them until the champion had moved")


def in_stream(models: Registry, tables: Lakehouse, address: str, times: int) -> None:
    """Roll back while a stream worker runs, and report each rollback."""
    finished = threading.Event()

    def send() -> None:
        number = 0
        while not finished.wait(1 / RATE):
            number += 1
            produce(address, [("messages", json.dumps(message(f"stream-{number}")).encode())])

    create_topics(address, ["messages"])
    variables = environment(KAFKA_BOOTSTRAP_SERVERS=address)
    with Path("worker.log").open("w") as log:
        worker = subprocess.Popen([SEAMLESS, "stream"], env=variables, stderr=log, stdout=log)
        sender = threading.Thread(target=send)
        sender.start()
        try:
            for _ in range(times):
                since = datetime.now(UTC)
                promotion.promote(models, TASK, 2, by="benchmark", why="to be rolled back")
                first_decision(tables, 2, "stream", since)
                report(models, tables, "stream", roll_back())
        finally:
            finished.set()
            sender.join()
            worker.terminate()
            worker.wait()


def in_batch(models: Registry, tables: Lakehouse, landing: Path) -> None:
    """Roll back before a batch run, and report it."""
    promotion.promote(models, TASK, 2, by="benchmark", why="to be rolled back")
    (landing / "messages" / "late.jsonl").write_text(json.dumps(message("batch-1")) + "\n")
    started = roll_back()
    subprocess.run([SEAMLESS, "run"], env=environment(LANDING=str(landing)), check=True, stdout=subprocess.DEVNULL)
    report(models, tables, "batch", started)
    late = (pl.col("document_id") == "batch-1") & (pl.col("task") == TASK)
    versions = tables.scan("silver/decisions").filter(late).collect()["model_version"].to_list()
    print(f"batch: the message that landed before the command is decided by version {versions}")


def main() -> None:
    """Train, promote, roll back, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rollbacks", type=int, default=3)
    arguments = parser.parse_args()
    with folder() as home, broker() as address:
        landing = Path(shutil.copytree(SAMPLES, home / "landing"))
        configure(landing=landing)
        from serving.cli.run import run

        run(lambda *_: None)
        models, tables = registry(settings()), lakehouse(settings())
        second_version(models)
        in_stream(models, tables, address, arguments.rollbacks)
        in_batch(models, tables, landing)


if __name__ == "__main__":
    main()
