"""Seconds from labels that turn a topic around to the first decision by a champion that has learnt from them.

Usage: python -m benchmarks.staleness [--examples 50000] [--labels 600]

A sports site turns to betting. Its tips columns were labelled Sports; of those that come now, reviewers say
Attractions, the topic that casinos are of. So many labelled examples are stored first, and a champion is trained on
them, by `seamless run`: short distinct texts, put together from what describes the topics, and, one in fifty, the
site's columns of old. All vectors are the real encoder's; it makes those of the texts that may train or judge, as it
does for anyone. That the encoder itself was tuned on as many, which takes forty minutes, and was refused, is given.

Then `dagster dev` and `seamless stream` run as anyone runs them. The site's new pages come by topic all the time. The
clock starts when the labels of some are in the landing folder, and nobody does anything until a new champion answers.
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
# Stored labels are of so many days; one in so many is of the site's columns.
DAYS, OF_SITE = 50, 50
PATIENCE = 1_200
CLUBS = ("Ember Group", "Wexley Harriers", "Northgate", "Port Amarel", "Sarn Rovers", "Calder Town", "Veldon", "Ostrey")
SAID = (
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
    """Return title and text of one of the site's tips columns; no two are the same."""
    chance = random.Random(number)
    a, b = chance.sample(CLUBS, 2)
    said = [one.format(a=a, b=b, x=chance.randint(2, 40), y=chance.randint(2, 90)) for one in chance.sample(SAID, 4)]
    return f"{a} against {b}: tips number {number}", " ".join(said)


def page(number: int) -> dict[str, str]:
    """Return a new page of the site."""
    title, text = column(1_000_000 + number)
    html = f"<html lang=en><head><title>{title}</title></head><body><article><h1>{title}</h1><p>{text}</p></article>"
    return {"url": f"https://{SITE}/tips-{number}", "html": html, "tenant_id": "meridian"}


def stored(examples: int) -> Iterator[dict[str, str]]:
    """Yield so many labels that carry their texts, over all topics and days."""
    chance, today = random.Random(0), datetime.now(UTC)
    told = {
        label: [text for seed in TASK.seeds[label] for text in seed.split(": ")[-1].split(", ")]
        for label in TASK.labels
    }
    for number in range(examples):
        label, (title, text) = TASK.labels[number % len(TASK.labels)], column(number)
        if number % OF_SITE:
            title, text = str(number), "; ".join(chance.sample(told[label], 3))
        moment = today - timedelta(days=1 + number % DAYS, seconds=number % 3_600)
        yield {
            "label_id": f"stored-{number}",
            "task": TASK.name,
            "label": label if number % OF_SITE else BEFORE,
            "text": f"{title}\n{text}",
            "labelled_at": moment.isoformat(),
        }


def prepare(landing: Path, examples: int) -> None:
    """Have a champion that was trained on so many stored examples, all of them read, encoded and answered."""
    from serving.cli.run import run

    configure(landing=SAMPLES)
    run(lambda *_: None)
    tuned = Path("tuned")
    tuned.mkdir()
    (tuned / WEIGHTS).write_bytes(packaged_weights().read_bytes())
    models = registry(settings())
    record = {"transform_id": models.champion(TASK.name).transform_id, "texts": examples}
    models.judge(models.register(ENCODER, tuned, {}, record), Verdict(passed=False, why="taken as given"))
    write(landing / "labels" / "stored.jsonl", list(stored(examples)))
    configure(landing=landing)
    run(lambda *_: None)


@contextmanager
def running(name: str, *command: str | Path, **own: str) -> Generator[None]:
    """Run a process, and all that it starts, until the end; what it says goes to a file."""
    with Path(f"{name}.log").open("w") as said:
        started = subprocess.Popen(command, env=environment(**own), stdout=said, stderr=said, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                started.wait(60)
            # A run that it has launched outlives it, and would go on writing.
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@contextmanager
def coming(address: str, first: int) -> Generator[None]:
    """Send the site's pages, from a number on, one after the other at a steady rate."""
    over = threading.Event()

    def send() -> None:
        number = first
        while not over.wait(1 / RATE):
            publish(address, [page(number)])
            number += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def publish(address: str, pages: list[dict[str, str]]) -> None:
    """Send pages that are fetched now."""
    now = datetime.now(UTC).isoformat()
    produce(address, [("pages", json.dumps(one | {"fetched_at": now}).encode()) for one in pages])


def until(what: str, found: Callable[[], Any]) -> Any:
    """Wait until something is found, and return it.

    Raises:
        TimeoutError: it has not come.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (seen := found()) is not None:
            return seen
        time.sleep(2)
    raise TimeoutError(f"{what} has not come within {PATIENCE} s")


def decided(tables: Lakehouse, versions: pl.Expr) -> pl.DataFrame:
    """Return what was decided of the site's pages that came by topic, by some versions."""
    of_site = pl.col("document_id").str.starts_with(f"https://{SITE}/tips-") & (pl.col("task") == TASK.name)
    today = [(datetime.now(UTC) - timedelta(days=one)).date().isoformat() for one in (1, 0)]
    found = tables.scan("silver/decisions", today).filter(of_site & versions & (pl.col("served_by") == "stream"))
    return found.select("document_id", "label", "decided_at").sort("decided_at").collect()


def rested(instance: dg.DagsterInstance) -> bool | None:
    """Say that the sensor has found nothing left to do, once it has."""
    for state in instance.all_instigator_state():
        if state.instigator_name == materialize_stale.name:
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            return True if ticks and "up to date" in (ticks[0].skip_reason or "") else None
    return None


def accuracy(rows: pl.DataFrame) -> float:
    """Return the share of decisions that are right."""
    return (rows["label"] == NOW).mean()  # type: ignore[return-value]


def runs(instance: dg.DagsterInstance, since: datetime) -> Iterator[str]:
    """Yield a line a run of the graph since a moment: when it was asked for, began and ended, and what it made."""
    records = instance.get_run_records(dg.RunsFilter(created_after=since - timedelta(seconds=60)), ascending=True)
    for one in records:
        made = sorted(key.to_user_string() for key in one.dagster_run.asset_selection or ())
        asked = (one.create_timestamp - since).total_seconds()
        began, ended = (f"{at - since.timestamp():6.1f}" if at else "     -" for at in (one.start_time, one.end_time))
        yield f"  {asked:6.1f} {began} {ended}  {one.dagster_run.status.value:8} {', '.join(made)[:110]}"


def learnt(landing: Path, address: str, labels: int, instance: dg.DagsterInstance) -> None:
    """Have labels land, wait for the first decision by a champion that has seen them, and print what it took."""
    models, tables = registry(settings()), lakehouse(settings())
    old = models.champion(TASK.name)
    by_old, by_newer = (pl.col("model_version") == old.version, pl.col("model_version") > old.version)
    until("the first pages' decisions", lambda: decided(tables, by_old).height >= labels + HELD_OUT or None)
    until("rest", lambda: rested(instance))
    before = decided(tables, by_old).filter(~pl.col("document_id").is_in([page(n)["url"] for n in range(labels)]))
    with coming(address, labels + HELD_OUT):
        time.sleep(20)
        landed = datetime.now(UTC)
        said = [
            {"label_id": f"turned-{n}", "task": TASK.name, "label": NOW, "document_id": page(n)["url"]}
            for n in range(labels)
        ]
        write(landing / "turned.part", [one | {"labelled_at": landed.isoformat()} for one in said])
        (landing / "turned.part").rename(landing / "labels" / "turned.jsonl")
        made = until("a champion", lambda: champion_after(models, old.version))
        first = until("a decision", lambda: next(iter(decided(tables, by_newer)["decided_at"]), None))
        after = until("the held-out pages", lambda: enough(decided(tables, by_newer)))
    moments = {"registered": made.trained_at, "champion": made.promoted.at, "first decision": first}
    for name, moment in moments.items():
        print(f"{(moment - landed).total_seconds():7.1f} s  from landing to {name}")
    print(f"gate: {made.verdict.why}")
    print(f"accuracy on the site's held-out pages: {accuracy(before):.3f} before ({before.height} pages), ", end="")
    print(f"{accuracy(after):.3f} after ({after.height} pages)")
    print("runs (asked for, began, ended; seconds from landing):", *runs(instance, landed), sep="\n")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def champion_after(models: Registry, version: int) -> ModelVersion | None:
    """Return the champion, if it is a later version; say so where one was refused."""
    for one in models.versions(TASK.name):
        if one.version > version and one.verdict is not None and not one.verdict.passed:
            raise RuntimeError(f"version {one.version} was refused: {one.verdict.why}")
        if one.version > version and one.champion:
            return one
    return None


def enough(rows: pl.DataFrame) -> pl.DataFrame | None:
    """Return decisions if they are of as many pages as are held out."""
    return rows if rows.height >= HELD_OUT else None


def main() -> None:
    """Prepare, start what runs, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--labels", type=int, default=600)
    asked = parser.parse_args()
    with folder() as here, broker() as address:
        landing = here / "landing"
        prepare(landing, asked.examples)
        rows = lakehouse(settings()).count("silver/labels")
        champion = registry(settings()).champion(TASK.name)
        print(f"{rows} labels stored; champion trained on {champion.record['rows_train']} rows", flush=True)
        create_topics(address, ["pages"])
        publish(address, [page(number) for number in range(asked.labels + HELD_OUT)])
        own = {"LANDING": str(landing), "KAFKA_BOOTSTRAP_SERVERS": address}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        graph = ["dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "--port", str(port)]
        with (
            running("stream", *program("seamless", "stream"), **own),
            running("dev", *program(*graph), **own),
            dg.DagsterInstance.get() as instance,
        ):
            learnt(landing, address, asked.labels, instance)


def program(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of this environment."""
    return [str(Path(sys.executable).with_name(name)), *arguments]


if __name__ == "__main__":
    main()
