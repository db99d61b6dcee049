"""One day's increment on a lake with 1×, 10× and 100× history: each stage's seconds, bytes read and peak memory.

Usage: python -m benchmarks.history [--days 3] [--documents 300] [--times 1 10 100] [--target 1.2]

One day is made by the graph itself, with heads that answer at random. History is that day again under other names, one
copy for each earlier day, with the checkpoints that say that it was made, and indexes that hold its keys. Then the same
new day lands on each lake, and each table of the graph is made for it, one after the other. Models are not trained, and
the nightly tables are left out. The exit code is 1 if a stage exceeds the target ratio in bytes read.
"""

import argparse
import ctypes
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from benchmarks.days import sentence
from benchmarks.end_to_end import write
from benchmarks.place import folder, fork
from governance import catalog
from platform_assets import lookups
from platform_assets.conventions import table_key
from platform_assets.definitions import defs
from platform_assets.operations import maintenance, retention
from platform_assets.publishing import input_checkpoints
from platform_assets.silver import decisions, embeddings
from resources.encoder import encoder
from resources.lakehouse.checkpoints import SCORED_BY
from resources.lakehouse.days import DAY
from resources.lakehouse.key_index import FOLDER, KeyIndex
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.registry.models import registry
from resources.settings import configure, settings
from sensors.materialize_stale import RANGE_END, RANGE_START, REGISTRY_TABLES, observe
from serving.stream.embedding_cache import EmbeddingCache
from serving.stream.pipelines import StreamState
from signals.tasks import TASKS
from tests.encoders import head

NEW = date(2026, 11, 16)
MADE = NEW - timedelta(days=1)
# Days of history that one commit holds.
CHUNK = 25
# Columns that name something of a day, so that each copy of the day names something else.
NAMES = {
    "alias", "author_id", "content_hash", "decision_id", "document_id", "event_id", "impression_id", "label_id",
    "message_id", "normalized_url", "page_url", "quarantine_id", "reply_to", "snapshot_id", "source", "sync_id", "url",
    "user_id", "auction_id",
}  # fmt: skip
# Would first expire and compact most of the history.
OF_THE_NIGHT = [table_key(table.TABLE) for table in (retention, maintenance)]
Figures = dict[str, tuple[float, int, int]]


def records(day: date, documents: int) -> dict[str, list[dict[str, Any]]]:
    """Return a day's records by folder; half of its texts are those of every other day."""
    chance, offset = random.Random(str(day)), day.toordinal()
    pages, messages, events, labels = [], [], [], []
    for number in range(documents // 2):
        text = random.Random(number) if number % 2 else chance
        url, at = f"https://site{number % 9}.example/{offset}-{number}", f"{day}T{number % 24:02d}:10:00Z"
        words = "".join(f"<p>{sentence(text, 30)}</p>" for _ in range(3))
        html = f"<html lang='en'><head><title>{sentence(text, 5)}</title></head><body><article>{words}</article></body>"
        pages.append({"url": url, "fetched_at": at, "html": html, "tenant_id": "harbour"})
        message = {"message_id": f"m-{offset}-{number}", "author_id": f"u-{number % 40}", "platform": "chirper"}
        message |= {"text": sentence(text, 12), "sent_at": at, "tenant_id": "harbour"}
        if number % 5 == 1:
            message["reply_to"] = f"m-{offset - number % 2}-{number - 1}"
        messages.append(message)
        for event in range(3):
            of_page = {"event_id": f"e-{offset}-{number}-{event}", "event_type": "impression", "event_time": at}
            of_page |= {"impression_id": f"i-{number}-{event}", "campaign_id": "c-1", "placement_id": "top"}
            events.append(of_page | {"url": url, "cost_usd": 0.001, "tenant_id": "harbour"})
        if number % 10 == 0:
            label = {"label_id": f"l-{offset}-{number}", "task": "undeclared", "label": "yes", "labelled_at": at}
            labels.append(label | {"document_id": url, "tenant_id": "harbour"})
    return {"pages": pages, "messages": messages, "ad_events": events, "labels": labels}


def land(home: Path, day: date, documents: int) -> None:
    """Have a day's records land."""
    for name, rows in records(day, documents).items():
        write(home / "landing" / name / f"{day}.jsonl", rows)


def stages(day: date) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each stage of a day by its name: the sensor, each table in the order of the graph, the stream."""
    definitions, tables = defs(), lakehouse(settings())
    graph, job = definitions.resolve_asset_graph(), definitions.resolve_implicit_global_asset_job_def()
    models, serving = registry(settings()), encoder(settings())

    def look() -> Any:
        assets = [asset for asset in graph.assets_defs if isinstance(asset, dg.AssetsDefinition)]
        return observe(assets, tables, models, serving, datetime(day.year, day.month, day.day, 23, tzinfo=UTC), {})

    def materialise(keys: Sequence[dg.AssetKey]) -> None:
        tags = {RANGE_START: str(day), RANGE_END: str(day)} if graph.get(keys[0]).partitions_def else {}
        with dg.DagsterInstance.get() as instance:
            job.execute_in_process(instance=instance, asset_selection=list(keys), tags=tags)

    def start_stream() -> None:
        EmbeddingCache(tables, serving.now())
        state = StreamState(tables)
        for table in ("silver/pages", "silver/messages"):
            state.publish(table, lambda rows: rows, tables.read(table, [str(day)]).with_columns(rule=pl.lit(None)))

    yield "sensor: landed", look
    ordered = [key for keys in graph.toposorted_asset_keys_by_level for key in sorted(keys)]
    for key in sorted((key for key in ordered if key.path[0] != "models" and key not in OF_THE_NIGHT), key=_rank):
        if key.path[0] != "gold":
            yield key.to_user_string(), lambda key=key: materialise([key])
        elif key.path[1] == "audit_trail":
            yield "gold/*", lambda: materialise([key for key in ordered if key.path[0] == "gold"])
    yield "sensor: made", look
    yield "stream: start", start_stream


def _rank(key: dg.AssetKey) -> int:
    """Return a table's place among the stages: dbt makes all of gold at once, and reads copies of the registry."""
    layers = ("bronze", "silver", "gold", "published", "operations", "reports")
    return layers.index("silver" if key.to_user_string() in REGISTRY_TABLES else key.path[0])


def measured(run: Callable[[], Any]) -> tuple[float, int, int]:
    """Return the seconds, bytes read and greatest growth of memory in bytes of a call."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, resident, started = _bytes_read(), _memory("VmRSS"), time.perf_counter()
    run()
    return time.perf_counter() - started, _bytes_read() - before, _memory("VmHWM") - resident


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def _memory(name: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def in_home(home: Path) -> None:
    """Have this process work in a folder."""
    os.chdir(home)
    os.environ["DAGSTER_HOME"] = str(home)
    configure(landing=home / "landing")


def make(home: Path, documents: int) -> None:
    """Make one day on an empty lake."""
    in_home(home)
    serving, models = encoder(settings()), registry(settings())
    for task in TASKS.values():
        if task.documents != ("image",):
            head(models, serving, task.name)
    land(home, MADE, documents)
    for name, run in stages(MADE):
        started = time.perf_counter()
        run()
        print(f"  {time.perf_counter() - started:5.1f} s  {name}", file=sys.stderr, flush=True)


def add_history(home: Path, days: int) -> None:
    """Write copies of the made day as earlier days, and the checkpoints that say that they were made."""
    in_home(home)
    tables = lakehouse(settings())
    every = [MADE - timedelta(days=number) for number in range(1, days)]
    for name in catalog.tables():
        if tables.exists(name) and DAY in tables.columns(name):
            rows = tables.read(name, [str(MADE)])
            for first in range(0, len(every), CHUNK):
                copies = [copy(rows, day) for day in every[first : first + CHUNK]]
                tables.append_once(name, pl.concat(copies), {}, {})
    save_state(tables, [str(day) for day in every])
    lookups.invalidate(tables)
    for folder_of_index in Path(tables.uri, FOLDER).iterdir():
        table, *key, _ = folder_of_index.name.split("-")
        KeyIndex(tables, table.replace("_", "/", 1), key).refresh()


def copy(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """Return rows of the made day as those of another day."""
    back, suffix = MADE - day, f"~{day.toordinal()}"
    expressions = []
    for name, kind in rows.schema.items():
        if name in NAMES and kind == pl.String:
            expressions.append(pl.col(name) + suffix)
        elif kind == pl.Date or isinstance(kind, pl.Datetime):
            expressions.append(pl.col(name) - back)
    return rows.with_columns(expressions)


def save_state(tables: Lakehouse, days: list[str]) -> None:
    """Store for each table the checkpoints that say that it was made for some days from its present inputs."""
    serving, models = encoder(settings()), registry(settings())
    traffic = decisions.traffic_fingerprint(models.for_encoder(serving.digest).traffic())
    graph = defs().resolve_asset_graph()
    for keys in graph.toposorted_asset_keys_by_level:
        for node in map(graph.get, keys):
            table, inputs = node.metadata.get("table"), node.metadata.get("inputs")
            if table and tables.exists(table) and node.partitions_def is not None:
                maker = serving.encoder_id if table == embeddings.TABLE else "inputs"
                made = input_checkpoints(tables, table, inputs, days, maker)
                if table == decisions.TABLE:
                    made |= {SCORED_BY.name(day): traffic for day in days}
                tables.save_checkpoints(table, made)


def measure(warm: Path, homes: dict[int, Path], documents: int) -> None:
    """Warm this process up on one lake, make the new day on each of the others, and write each stage's figures."""
    figures: dict[int, Figures] = {}
    for times, home in {0: warm, **homes}.items():
        in_home(home)
        land(home, NEW, documents)
        print(f"{times}×" if times else "warm-up", file=sys.stderr, flush=True)
        figures[times] = {name: measured(run) for name, run in stages(NEW)}
    (warm / "figures.json").write_text(json.dumps({times: figures[times] for times in homes}))


def forked(function: Callable[[], None]) -> None:
    """Call a function in a fork, and wait for it."""
    if os.waitstatus_to_exitcode(os.waitpid(fork(function), 0)[1]):
        sys.exit(1)


def table_of(figures: dict[int, Figures]) -> Iterator[str]:
    """Yield a line a stage: the figures of the least history, and the ratios of the others to them."""
    first, *others = figures
    yield f"{'':34}{first}×: s, MB read, MB" + "".join(f"{f'{times}×':>8}: s, read, memory" for times in others)
    for name, (seconds, read, memory) in figures[first].items():
        line = f"{name:34}{seconds:7.2f} {read / 1e6:8.1f} {memory / 1e6:6.0f}"
        for times in others:
            s, r, m = figures[times][name]
            line += f"{s / seconds:10.2f} {r / max(read, 1):6.2f} {(m + 1e7) / (memory + 1e7):6.2f}"
        yield line


def main() -> None:
    """Prepare, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=3, help="days of 1×")
    parser.add_argument("--documents", type=int, default=300, help="documents of a day")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--target", type=float, default=1.2)
    given = parser.parse_args()
    # Polars would map files into memory, and what is read that way is not counted.
    os.environ["POLARS_FORCE_ASYNC"] = "1"
    with folder() as home:
        made, started = home / "made", time.perf_counter()
        made.mkdir()
        shutil.copy("dagster.yaml", made)
        forked(lambda: make(made, given.documents))
        print(f"one day made in {time.perf_counter() - started:.0f} s", flush=True)
        homes = {times: home / f"{times}" for times in given.times}
        for times, place in homes.items():
            shutil.copytree(made, place)
            started = time.perf_counter()
            forked(lambda place=place, days=times * given.days: add_history(place, days))
            print(f"{times}×: {times * given.days} days written in {time.perf_counter() - started:.0f} s", flush=True)
        forked(lambda: measure(made, homes, given.documents))
        figures = {int(times): of for times, of in json.loads((made / "figures.json").read_text()).items()}
    print("\n".join(table_of(figures)))
    first, last = figures[min(figures)], figures[max(figures)]
    above = [name for name in first if last[name][1] > given.target * first[name][1] + 1e6]
    print(f"bytes read above {given.target} × and 1 MB: {', '.join(above) or 'none'}")
    sys.exit(bool(above))


if __name__ == "__main__":
    main()
