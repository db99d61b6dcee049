"""Thirty days of deliveries: unchanged pages, late and repeated records, files that grow or are rewritten, and kills.

Usage: python -m benchmarks.days --models FOLDER [--days N] [--kills K]

Each day's records land and are processed, by file and by topic in turn, and some runs are killed. At the end every
table is compared with that of a single run on all records. ``FOLDER`` is the state of an installation with models:
``mlflow.db``, ``artifacts``, and the model cache as ``models``.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.place import broker, create_topics, folder, fork, produce
from platform_assets.silver.decisions import DOCUMENTS
from signals.classify import ASKED_ABOUT
from tests.support.graph import Graph

Record = dict[str, Any]
Records = dict[str, list[Record]]
FIRST = date(2026, 10, 1)
TENANTS = ("harbour", "meridian", None)
PAGES, USERS = 8, 6
WORDS = [
    "bridge",
    "harbour",
    "market",
    "council",
    "winter",
    "goal",
    "recipe",
    "engine",
    "river",
    "budget",
    "garden",
    "signal",
]
TOPICS = {
    "pages": "pages",
    "messages": "messages",
    "ad_events": "ad-events",
    "inventory": "inventory",
    "rtb_auctions": "rtb-auctions",
    "user_sync": "user-sync",
}


def at(day: int, hour: float) -> str:
    """Return a time of a day, in ISO 8601."""
    return f"{datetime.fromisoformat(FIRST.isoformat()) + timedelta(days=day, hours=hour):%Y-%m-%dT%H:%M:%SZ}"


def with_tenant(record: Record, number: int) -> Record:
    """Return a record with the tenant of its number, if that has one."""
    tenant = TENANTS[number % len(TENANTS)]
    return record if tenant is None else record | {"tenant_id": tenant}


def sentence(chance: random.Random, words: int) -> str:
    """Return a random sentence."""
    return " ".join(chance.choice(WORDS) for _ in range(words)).capitalize() + "."


def page(number: int, version: int) -> str:
    """Return the page of a number and version; every second number has another canonical address."""
    chance = random.Random(number * 1_000 + version)
    link = f'<link rel="canonical" href="https://site{number % 3}.example/story-{number}">' if number % 2 else ""
    paragraphs = "".join(f"<p>{sentence(chance, 30)}</p>" for _ in range(4))
    return (
        f"<html lang='en'><head><title>{sentence(chance, 5)}</title>{link}</head><body><article>{paragraphs}"
        "</article></body></html>"
    )


def fetches(day: int) -> list[Record]:
    """Return the fetches of a day: most pages are unchanged, one has changed, one is fetched for two tenants."""
    records = []
    for number in range(PAGES):
        url = f"https://site{number % 3}.example/fetched?id={number}"
        version = day // 3 if number == day % PAGES else 0
        fetch = {"url": url, "fetched_at": at(day, 6 + number / 10), "html": page(number, version)}
        records += [with_tenant(fetch, tenant) for tenant in (number, number + 1)[: 2 - bool(number)]]
    return records


def messages(day: int, chance: random.Random) -> list[Record]:
    """Return the messages of a day; one replies to a message that lands a day later, though it was sent earlier."""
    records = []
    for number in range(8):
        message = {"message_id": f"m-{day}-{number}", "author_id": f"u-{(day + number) % USERS}", "platform": "chirper"}
        message |= {"text": sentence(chance, 8), "sent_at": at(day - 1, 3) if number == 0 else at(day, 9 + number)}
        reply_to = {1: f"m-{day + 1}-0", 2: f"m-{day - 1}-2"}.get(number)
        records.append(with_tenant(message | ({"reply_to": reply_to} if reply_to else {}), number // 4))
    return records


def profiles(day: int, chance: random.Random) -> list[Record]:
    """Return the day's profile of one user for two tenants, with opposite consent."""
    user = {"user_id": f"u-{day % USERS}", "updated_at": at(day, 12), "country": "FR", "consent": chance.random() < 0.6}
    return [with_tenant(user, 0), with_tenant(user | {"consent": not user["consent"]}, 1)]


def labels(day: int) -> list[Record]:
    """Return labels of a message that lands a day later, of a page by its fetched address, and of no document."""
    documents = (f"m-{day + 1}-3", f"https://site1.example/fetched?id={1 + 2 * (day % 4)}", "nothing")
    label = {"task": "undeclared_task", "label": "yes", "labelled_at": at(day, 15)}
    return [label | {"label_id": f"l-{day}-{number}", "document_id": name} for number, name in enumerate(documents)]


def ad_events(day: int, chance: random.Random) -> list[Record]:
    """Return ad events, some of them late, some under an id that another tenant uses too."""
    records = []
    for number in range(40):
        event = {"event_id": f"e-{day}-{number}", "event_type": chance.choice(("impression", "viewable", "click"))}
        event |= {"event_time": at(day - (number % 13 == 5), chance.uniform(0, 23.9)), "impression_id": f"i-{number}"}
        event |= {"campaign_id": f"c-{number % 4}", "cost_usd": 0.001, "placement_id": "top"}
        path = f"story-{number % PAGES}" if number % 2 else f"fetched?id={number % PAGES}&utm_source=x"
        event["url"] = f"https://site{number % PAGES % 3}.example/{path}"
        records.append(with_tenant(event, number))
        if number < 3:
            records.append(with_tenant(event | {"cost_usd": 0.002}, number + 1))
    return records


def exchange(day: int) -> Records:
    """Return the day's inventory snapshots, auctions and user syncs."""
    records: Records = {"inventory": [], "rtb_auctions": [], "user_sync": []}
    for number in range(4):
        url = f"https://site{number % 3}.example/story-{number}"
        offer = {"snapshot_id": f"s-{day}-{number}", "observed_at": at(day, number), "placement_id": "top", "url": url}
        offer |= {"avails": 10, "filled": number, "exchange": "exchange.example", "seller_id": "s-1"}
        request = {
            "id": f"a-{day}-{number}",
            "imp": [{"id": "1", "banner": {}, "bidfloor": 0.5}],
            "site": {"page": url},
        }
        auction = {"auction_id": f"a-{day}-{number}", "auction_time": at(day, number), "request": request, "bids": []}
        sync = {"sync_id": f"y-{day}-{number}", "synced_at": at(day, number), "user_id": "u-1", "partner": "p"}
        sync["status"] = "matched"
        for name, record in zip(records, (offer, auction, sync), strict=True):
            records[name].append(with_tenant(record, number))
    return records


def deliveries(days: int, seed: int = 0) -> Iterator[Records]:
    """Yield each day's records by folder; some earlier ones are repeated, most of them dated a day later."""
    chance, past = random.Random(seed), defaultdict(list)
    for day in range(days):
        fresh: Records = {"pages": fetches(day), "messages": messages(day, chance), "users": profiles(day, chance)}
        fresh |= {"labels": labels(day), "ad_events": ad_events(day, chance), **exchange(day)}
        for name, records in past.items():
            repeated = chance.sample(records, min(len(records), 3)) if name != "users" else []
            fresh[name] += [a_day_later(record) if index else record for index, record in enumerate(repeated)]
        for name, records in fresh.items():
            past[name] = [*past[name], *records][-60:]
            chance.shuffle(records)
        yield fresh


def a_day_later(record: Record) -> Record:
    """Return a record dated a day later, as a retry dates it, if its key does not include the time."""
    times = [name for name in ("event_time", "observed_at", "auction_time", "synced_at", "sent_at") if name in record]
    later = {name: f"{datetime.fromisoformat(record[name]) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}" for name in times}
    return record | later


def differences(expected: Graph, actual: Graph) -> list[str]:
    """Return the tables that differ between two graphs, apart from bronze and quarantine."""
    tables = [name for name in expected.tables() if not name.startswith("bronze/") and name != "silver/quarantine"]
    return [name for name in tables if not current(expected, name).equals(current(actual, name))]


def current(graph: Graph, table: str) -> pl.DataFrame:
    """Return a table's rows; of decisions only those about documents that silver holds, since none is ever deleted."""
    rows = graph.read(table)
    if table not in ("silver/decisions", "gold/audit_trail"):
        return rows
    documents = [graph.lake.scan(name).select(ASKED_ABOUT) for name in DOCUMENTS.values()]
    return rows.join(pl.concat(documents).collect(), on=ASKED_ABOUT, how="semi", maintain_order="left")


def land(graph: Graph, day: int, records: Mapping[str, list[Record]]) -> None:
    """Have a day's records land: half in new files, half in one that grows; rewrite an older file now and then."""
    for name, rows in records.items():
        half = len(rows) // 2
        graph.land(f"{name}/{day:02d}.jsonl", rows[:half])
        graph.land(f"{name}/all.jsonl", rows[half:])
    if day % 5 == 4:
        file = sorted((graph.landing / "ad_events").glob("[0-9]*.jsonl"))[-2]
        file.write_text("\n".join(reversed(file.read_text().splitlines())) + "\n")


def deliver(graph: Graph, day: int, records: Records, address: str) -> list[Callable[[], Any]]:
    """Have a day's records land, or every third day arrive by topic; return the runs that process them."""
    if day % 3 < 2:
        land(graph, day, records)
        return [graph.run]
    produce(address, [(TOPICS[name], json.dumps(row).encode()) for name in TOPICS for row in records[name]])
    land(graph, day, {name: rows for name, rows in records.items() if name not in TOPICS})
    return [graph.stream, graph.run]


def main() -> None:
    """Print the tables that differ between daily runs and a single run, and the time of the daily runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    models = arguments.models.resolve()
    chance, failed, killed = random.Random(1), 0, 0
    with folder() as home, broker() as address:
        create_topics(address, TOPICS.values())
        daily, whole = Graph(home / "daily", models, address), Graph(home / "whole", models)
        started = time.monotonic()
        for day, records in enumerate(deliveries(arguments.days)):
            for name, rows in records.items():
                whole.land(f"{name}/{day:02d}.jsonl", rows)
            for run in deliver(daily, day, records, address):
                if killed < arguments.kills and chance.random() < 0.5:
                    child = fork(run)
                    time.sleep(chance.uniform(0.5, 12))
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    killed += 1
                _, status = os.waitpid(fork(run), 0)
                failed += status != 0
            print(f"day {day + 1}: {time.monotonic() - started:.0f} s, {killed} kills, {failed} failed", flush=True)
        spent = time.monotonic() - started
        whole.run()
        differing = differences(whole, daily)
    print(f"{arguments.days} days in {spent:.0f} s with {killed} kills: {failed} runs failed")
    print(f"tables that differ from those of all records at once: {', '.join(differing) or 'none'}")
    sys.exit(bool(failed or differing))


if __name__ == "__main__":
    main()
