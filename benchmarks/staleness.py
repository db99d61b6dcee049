"""Seconds from labels that turn a topic around to the first decision by a champion that has learnt from them.

Usage: python -m benchmarks.staleness [--examples 50000] [--labels 600]

A sports site turns to betting. Its old tips columns are labelled Sports; reviewers label the new ones Attractions, the
topic of casinos. First `seamless run` trains a champion on stored examples: short distinct texts from the topics'
descriptions, and one in fifty of the site's old columns. All vectors are from the real encoder. A tuned encoder that
the gate refused is registered beforehand, since tuning one takes forty minutes.

Then `dagster dev` and `seamless stream` run as in an installation, and the site's new pages arrive by topic. The
measurement starts when labels of some pages land, and ends, without intervention, when a new champion answers.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from benchmarks.end_to_end import SAMPLES, write
from benchmarks.place import broker, create_topics, environment, folder, produce
from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER
from resources.encoder import WEIGHTS, packaged_weights
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.registry.models import Registry, registry
from resources.registry.versions import ModelVersion
from resources.settings import PROJECT, configure, settings
from sensors.materialize_stale import materialize_stale
from signals.tasks import TASKS

TASK = TASKS["iab_category"]
SITE = "touchline.example"
BEFORE, NOW = "483", "150"
HELD_OUT, RATE = 100, 1.0
# Days of the stored labels; one label in ``SITE_SHARE`` is of the site's columns.
DAYS, SITE_SHARE = 50, 50
TIMEOUT_SECONDS = 1_200
CLUBS = ("Ember Group", "Wexley Harriers", "Northgate", "Port Amarel", "Sarn Rovers", "Calder Town", "Veldon", "Ostrey")
SENTENCES = (
    "Back {a} at {x} to {y} before the price goes, says our tipster.",
    "The bookmakers have {b} as favourites, but the value is on {a} with a handicap of {x}.",
    "Stake {y} on both teams to score and take the free bet that comes with it.",
    "Our accumulator of the day puts {a} with {b} and pays {x} for one.",
    "Deposit {y} today, and the house doubles it for the evening's matches.",
    "Odds on {a} shorten to {x}; cash out early if {b} score first.",
    "In-play markets open at seven: next corner, next card, next goal, from {x} to {y}.",
    "Spin the wheel between the halves: {y} free spins for whoever backed {a}.",
)


def column(number: int) -> tuple[str, str]:
    """Return title and text of one of the site's tips columns; all numbers give different ones."""
    chance = random.Random(number)
    a, b = chance.sample(CLUBS, 2)
    sentences = [
        sentence.format(a=a, b=b, x=chance.randint(2, 40), y=chance.randint(2, 90))
        for sentence in chance.sample(SENTENCES, 4)
    ]
    return f"{a} against {b}: tips number {number}", " ".join(sentences)


def page(number: int) -> dict[str, str]:
    """Return a new page of the site."""
    title, text = column(1_000_000 + number)
    html = f"<html lang=en><head><title>{title}</title></head><body><article><h1>{title}</h1><p>{text}</p></article>"
    return {"url": f"https://{SITE}/tips-{number}", "html": html, "tenant_id": "meridian"}


def stored_labels(examples: int) -> Iterator[dict[str, str]]:
    """Yield labels with texts, over all topics and days."""
    chance, today = random.Random(0), datetime.now(UTC)
    descriptions = {
        label: [text for seed in TASK.seeds[label] for text in seed.split(": ")[-1].split(", ")]
        for label in TASK.labels
    }
    for number in range(examples):
        label, (title, text) = TASK.labels[number % len(TASK.labels)], column(number)
        if number % SITE_SHARE:
            title, text = str(number), "; ".join(chance.sample(descriptions[label], 3))
        labelled_at = today - timedelta(days=1 + number % DAYS, seconds=number % 3_600)
        yield {
            "label_id": f"stored-{number}",
            "task": TASK.name,
            "label": label if number % SITE_SHARE else BEFORE,
            "text": f"{title}\n{text}",
            "labelled_at": labelled_at.isoformat(),
        }


def prepare(landing: Path, examples: int) -> None:
    """Train a champion on stored examples, and have all of them encoded and decided."""
    from serving.cli.run import run

    configure(landing=SAMPLES)
    run(lambda *_: None)
    tuned = Path("tuned")
    tuned.mkdir()
    (tuned / WEIGHTS).write_bytes(packaged_weights().read_bytes())
    models = registry(settings())
    record = {"transform_id": models.champion(TASK.name).transform_id, "texts": examples}
    models.judge(models.register(ENCODER, tuned, {}, record), Verdict(passed=False, why="taken as given"))
    write(landing / "labels" / "stored.jsonl", list(stored_labels(examples)))
    configure(landing=landing)
    run(lambda *_: None)


@contextmanager
def running(name: str, *command: str | Path, **variables: str) -> Generator[None]:
    """Run a process and its children during the context, with their output in a file."""
    with Path(f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment(**variables), stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            # A run that it has launched outlives it, and would continue to write.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def sending_pages(address: str, first: int) -> Generator[None]:
    """Send the site's pages, from a number on, at a steady rate during the context."""
    finished = threading.Event()

    def send() -> None:
        number = first
        while not finished.wait(1 / RATE):
            publish(address, [page(number)])
            number += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        finished.set()
        sender.join()


def publish(address: str, pages: list[dict[str, str]]) -> None:
    """Send pages with the present time as that of their fetch."""
    now = datetime.now(UTC).isoformat()
    produce(address, [("pages", json.dumps(page | {"fetched_at": now}).encode()) for page in pages])


def wait_for(event: str, poll: Callable[[], Any]) -> Any:
    """Poll until a result is not None, and return it.

    Raises:
        TimeoutError: there was no result in time.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if (result := poll()) is not None:
            return result
        time.sleep(2)
    raise TimeoutError(f"no {event} within {TIMEOUT_SECONDS} s")


def stream_decisions(tables: Lakehouse, versions: pl.Expr) -> pl.DataFrame:
    """Return the stream's decisions about the site's pages, by some versions."""
    of_site = pl.col("document_id").str.starts_with(f"https://{SITE}/tips-") & (pl.col("task") == TASK.name)
    days = [(datetime.now(UTC) - timedelta(days=back)).date().isoformat() for back in (1, 0)]
    decisions = tables.scan("silver/decisions", days).filter(of_site & versions & (pl.col("served_by") == "stream"))
    return decisions.select("document_id", "label", "decided_at").sort("decided_at").collect()


def up_to_date(instance: dg.DagsterInstance) -> bool | None:
    """Return True if the sensor's last tick found nothing to do, else None."""
    for state in instance.all_instigator_state():
        if state.instigator_name == materialize_stale.name:
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            return True if ticks and "up to date" in (ticks[0].skip_reason or "") else None
    return None


def accuracy(rows: pl.DataFrame) -> float:
    """Return the share of decisions that are right."""
    return (rows["label"] == NOW).mean()  # type: ignore[return-value]


def runs(instance: dg.DagsterInstance, since: datetime) -> Iterator[str]:
    """Yield a line for each run since a timestamp: when it was requested, started and ended, and its assets."""
    records = instance.get_run_records(dg.RunsFilter(created_after=since - timedelta(seconds=60)), ascending=True)
    for run in records:
        assets = sorted(key.to_user_string() for key in run.dagster_run.asset_selection or ())
        requested = (run.create_timestamp - since).total_seconds()
        started, ended = (f"{at - since.timestamp():6.1f}" if at else "     -" for at in (run.start_time, run.end_time))
        yield f"  {requested:6.1f} {started} {ended}  {run.dagster_run.status.value:8} {', '.join(assets)[:110]}"


def measure(landing: Path, address: str, labels: int, instance: dg.DagsterInstance) -> None:
    """Have labels land, wait for the first decision by a champion trained on them, and print the times."""
    models, tables = registry(settings()), lakehouse(settings())
    old = models.champion(TASK.name)
    by_old, by_newer = (pl.col("model_version") == old.version, pl.col("model_version") > old.version)
    wait_for("decisions", lambda: stream_decisions(tables, by_old).height >= labels + HELD_OUT or None)
    wait_for("idle sensor", lambda: up_to_date(instance))
    labelled = [page(n)["url"] for n in range(labels)]
    before = stream_decisions(tables, by_old).filter(~pl.col("document_id").is_in(labelled))
    with sending_pages(address, labels + HELD_OUT):
        time.sleep(20)
        landed = datetime.now(UTC)
        record = {"task": TASK.name, "label": NOW, "labelled_at": landed.isoformat()}
        records = [record | {"label_id": f"turned-{n}", "document_id": url} for n, url in enumerate(labelled)]
        write(landing / "turned.part", records)
        (landing / "turned.part").rename(landing / "labels" / "turned.jsonl")
        new = wait_for("champion", lambda: champion_after(models, old.version))
        first = wait_for("decision", lambda: next(iter(stream_decisions(tables, by_newer)["decided_at"]), None))
        after = wait_for("held-out pages", lambda: enough(stream_decisions(tables, by_newer)))
    times = {"registered": new.trained_at, "champion": new.promoted.at, "first decision": first}
    for name, timestamp in times.items():
        print(f"{(timestamp - landed).total_seconds():7.1f} s  from landing to {name}")
    print(f"gate: {new.verdict.why}")
    print(f"accuracy on the site's held-out pages: {accuracy(before):.3f} before ({before.height} pages), ", end="")
    print(f"{accuracy(after):.3f} after ({after.height} pages)")
    print("runs (requested, started, ended; seconds from landing):", *runs(instance, landed), sep="\n")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def champion_after(models: Registry, version: int) -> ModelVersion | None:
    """Return the champion if it is a later version.

    Raises:
        RuntimeError: the gate refused a later version.
    """
    for candidate in models.versions(TASK.name):
        if candidate.version > version and candidate.verdict is not None and not candidate.verdict.passed:
            raise RuntimeError(f"version {candidate.version} was refused: {candidate.verdict.why}")
        if candidate.version > version and candidate.champion:
            return candidate
    return None


def enough(rows: pl.DataFrame) -> pl.DataFrame | None:
    """Return decisions if they are as many as the held-out pages, else None."""
    return rows if rows.height >= HELD_OUT else None


def main() -> None:
    """Prepare, start Dagster and the stream, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--labels", type=int, default=600)
    arguments = parser.parse_args()
    with folder() as home, broker() as address:
        landing = home / "landing"
        prepare(landing, arguments.examples)
        rows = lakehouse(settings()).count("silver/labels")
        champion = registry(settings()).champion(TASK.name)
        print(f"{rows} labels stored; champion trained on {champion.record['rows_train']} rows", flush=True)
        create_topics(address, ["pages"])
        publish(address, [page(number) for number in range(arguments.labels + HELD_OUT)])
        variables = {"LANDING": str(landing), "KAFKA_BOOTSTRAP_SERVERS": address}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        graph = ["dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "--port", str(port)]
        with (
            running("stream", *program("seamless", "stream"), **variables),
            running("dev", *program(*graph), **variables),
            dg.DagsterInstance.get() as instance,
        ):
            measure(landing, address, arguments.labels, instance)


def program(name: str, *arguments: str) -> list[str]:
    """Return the command line of a program of this environment."""
    return [str(Path(sys.executable).with_name(name)), *arguments]


if __name__ == "__main__":
    main()
