"""The stream worker on a real broker: what comes by topics is what batch makes of files, once each."""

import gzip
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from benchmarks import kills
from benchmarks.end_to_end import lines
from benchmarks.place import PARTITIONS, create_topics, produce
from governance import catalog
from platform_assets.definitions import defs
from platform_assets.operations.stream_lag import CHECK
from resources.encoder import encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT, Settings, configure, settings
from resources.signal_store.stores import LocalStore
from resources.sources.topics import TopicReader
from sensors.stale_days import daily_inputs, stale
from serving.stream import worker as serving_stream
from serving.stream.pipelines import PIPELINES, TopicPipeline
from serving.stream.worker import ingest_batch, ingested_positions, source_name, stream
from tests.conftest import SEAMLESS, environment
from tests.support.signals import held

pytestmark = pytest.mark.slow
FOLDERS = ("pages", "messages", "ad_events", "inventory", "rtb_auctions", "user_sync")
SILVER = ("pages", "images", "messages", "ad_events", "inventory", "rtb_auctions", "user_sync", "embeddings")
ANSWERS = ("decisions", "page_signals", "message_signals")


def send(broker: str, events: list[tuple[str, bytes]]) -> None:
    create_topics(broker, sorted({topic for topic, _ in events}))
    produce(broker, events)


def worker(home: Path, broker: str, *arguments: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    own = environment(home) | {"KAFKA_BOOTSTRAP_SERVERS": broker, "SIGNAL_STORE": str(home / "signals")}
    program = [SEAMLESS, "stream", *arguments]
    return subprocess.Popen(program, cwd=home, env=own, text=True, stderr=stderr, stdout=subprocess.DEVNULL)


@contextmanager
def configured(home: Path, broker: str) -> Iterator[Settings]:
    """Have this process work on a folder, and with a broker."""
    before = settings()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DAGSTER_HOME", str(home))
        try:
            yield configure(
                lakehouse_uri=str(home / "lake"),
                mlflow_tracking_uri=f"sqlite:///{home}/mlflow.db",
                mlflow_artifacts=str(home / "artifacts"),
                model_cache=home / "models",
                kafka_bootstrap_servers=broker,
                signal_store=str(home / "signals"),
            )
        finally:
            configure(**before.model_dump())


def drain(home: Path, broker: str) -> None:
    """Run a worker in this process until it has read all that there is."""
    with configured(home, broker) as known:
        stream(known, until_drained=True, log=lambda _: None)


def places_of(pipeline: TopicPipeline) -> list[str]:
    """Return the source names of a pipeline's partitions."""
    return [source_name((pipeline.topic, number)) for number in range(PARTITIONS)]


def sample_lines() -> list[tuple[str, bytes]]:
    """Return every line of the samples that is a record of a topic, as it landed."""
    found = []
    for folder in FOLDERS:
        for path in sorted((PROJECT / "samples" / folder).glob("*.jsonl*")):
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found += [(folder.replace("_", "-"), line) for line in data.split(b"\n") if line.strip()]
    return [(topic, line) for topic, line in found if len(line) < 900_000]


def rows_of(lake: Lakehouse, table: str) -> list[str]:
    """Return a table's rows, without what says where from and when each came."""
    of_the_way = {"source", "position", "received_at", "run_id", "decided_at", "input_version", "served_by"}
    rows = lake.read(table)
    return sorted(map(str, rows.select(sorted(set(rows.columns) - of_the_way)).rows()))


def published(home: Path, tenant_id: str, document_id: str) -> dict[str, object] | None:
    """Return a page's signals as the store has them."""
    with closing(LocalStore(home / "signals")) as store:
        return held(store, tenant_id, document_id)


def story(name: str, **more: str) -> tuple[str, bytes]:
    """Return a page that the samples do not have."""
    body = f"<html><body><article><p>{'The harbour opened again. ' * 20} {name}</p></article></body></html>"
    return "pages", json.dumps({"url": f"https://live.example/{name}", "html": body, **more}).encode()


@pytest.fixture
def copied(home: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder in which the graph has run on the samples."""
    return Path(shutil.copytree(home, tmp_path / "copied"))


def test_a_topic_gives_the_rows_that_files_give(home: Path, copied: Path, broker: str):
    lake, batch = Lakehouse(uri=str(copied / "lake")), Lakehouse(uri=str(home / "lake"))
    for layer in ("silver", "bronze"):
        for folder in (copied / "lake" / layer).iterdir():
            if folder.name not in ("user_profiles", "seller_declarations", "labels", "review_labels"):
                shutil.rmtree(folder)
    send(broker, sample_lines())
    drain(copied, broker)
    for name in ("ad_events", "inventory", "rtb_auctions", "user_sync", "messages", "message_signals"):
        assert rows_of(lake, f"silver/{name}") == rows_of(batch, f"silver/{name}"), name
    # Some pages land as WARC and HTML files, which no topic carries.
    for name in ("pages", "page_signals"):
        streamed, known = rows_of(lake, f"silver/{name}"), rows_of(batch, f"silver/{name}")
        assert len(streamed) > 200
        assert set(streamed) <= set(known), name
    page = lake.read("silver/page_signals").sort("fetched_at").row(-1, named=True)
    stored = published(copied, page["tenant_id"], page["document_id"])
    assert stored is not None
    assert {name: stored[name] for name in ("threat", "iab_category", "content_hash")} == {
        name: page[name] for name in ("threat", "iab_category", "content_hash")
    }


def test_what_came_by_file_and_by_topic_is_one(home: Path, copied: Path, broker: str):
    lake, batch = Lakehouse(uri=str(copied / "lake")), Lakehouse(uri=str(home / "lake"))
    events = [event for event in sample_lines() if event[0] in ("messages", "pages", "user-sync")]
    send(broker, events)
    drain(copied, broker)
    for name in (*SILVER, *ANSWERS):
        assert rows_of(lake, f"silver/{name}") == rows_of(batch, f"silver/{name}"), name
    again = lake.read("silver/quarantine").filter(pl.col("source").str.starts_with("kafka:"))
    bronze = sum(
        lake.read(f"bronze/{name}").filter(pl.col("source").str.starts_with("kafka:")).height
        for name in ("page_fetches", "social_messages", "user_sync")
    )
    of_silver = again.filter(pl.col("table").str.starts_with("silver/"), ~pl.col("rule").str.starts_with("image"))
    assert bronze + again.filter(pl.col("table").str.starts_with("bronze/")).height == len(events)
    assert of_silver.filter(pl.col("table") != "silver/images").height == bronze


def test_a_worker_goes_on_with_what_comes_after_it_has_caught_up(copied: Path, broker: str):
    send(broker, [story("first")])
    live = worker(copied, broker)
    try:
        store = LocalStore(copied / "signals")
        until = time.monotonic() + 120
        for name in ("first", "second", "third"):
            if name != "first":
                produce(broker, [story(name)])
            while held(store, "default", f"https://live.example/{name}") is None:
                assert time.monotonic() < until, name
                assert live.poll() is None
                time.sleep(0.1)
    finally:
        live.terminate()
        live.wait()


class Killed(BaseException):
    """What a kill is to the code that it meets."""


def test_a_kill_between_the_tables_and_the_store_leaves_no_page_unpublished(copied: Path, broker: str):
    url = "https://late.example/story"
    body = f"<html><body><article><p>{'The bridge was closed at noon. ' * 20}</p></article></body></html>"
    send(broker, [("pages", json.dumps({"url": url, "html": body}).encode())])

    def die(*_: object) -> None:
        raise Killed

    lake = Lakehouse(uri=str(copied / "lake"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LocalStore, "put", die)
        with pytest.raises(Killed):
            drain(copied, broker)
    assert url in lake.read("silver/page_signals")["document_id"].to_list()
    assert published(copied, "default", url) is None
    drain(copied, broker)
    assert published(copied, "default", url) is not None
    assert lake.read("silver/page_signals")["document_id"].to_list().count(url) == 1
    with configured(copied, broker), dg.DagsterInstance.get() as instance:
        check = dg.AssetCheckKey(dg.AssetKey(["bronze", "page_fetches"]), CHECK)
        told = instance.get_latest_asset_check_evaluation_record(check)
        assert told.event.dagster_event.event_specific_data.passed


def test_late_early_and_changed_events_come_to_the_day_that_is_theirs(copied: Path, broker: str):
    lake, now = Lakehouse(uri=str(copied / "lake")), datetime.now(UTC)
    template = next(record for record in lines("ad_events") if record.get("event_id"))

    def event(name: str, days: float, **more: object) -> tuple[str, bytes]:
        moment = (now + timedelta(days=days)).isoformat()
        return "ad-events", json.dumps(template | {"event_id": name, "event_time": moment, **more}).encode()

    few = [event("late", -40), event("wide", 0, viewport="tall"), event("skewed", 0.5), event("early", 3)]
    many = [event(f"plain-{number}", -2) for number in range(21)]
    # `produce` alternates between two partitions, and between them there is no order: what repeats or contradicts
    # an event comes an even number of places after it.
    send(broker, [*many, *few, event("late", -40), event("narrow", 0, viewport=7)])
    before = lake.read("silver/ad_events").height
    drain(copied, broker)
    rows = lake.read("silver/ad_events").filter(pl.col("source").str.starts_with("kafka:"))
    assert dict(rows.filter(~pl.col("event_id").str.starts_with("plain")).select("event_id", DAY).rows()) == {
        "late": (now - timedelta(days=40)).date(),
        "skewed": (now + timedelta(days=0.5)).date(),
        "wide": now.date(),
        "narrow": now.date(),
    }
    assert lake.read("silver/ad_events").height == before + 25
    told = lake.read("bronze/ad_events").filter(pl.col("event_id").is_in(["wide", "narrow"]))
    viewport = pl.col("undeclared").str.json_path_match("$.viewport")
    assert sorted(told.select("event_id", viewport).rows()) == [("narrow", "7"), ("wide", "tall")]
    broken = lake.read("silver/quarantine").filter(pl.col("source").str.starts_with("kafka:"))
    assert sorted(broken.select("table", "rule").rows()) == [
        ("bronze/ad_events", "out_of_range:event_time"),
        ("silver/ad_events", "duplicate_key"),
    ]


def test_what_is_streamed_is_not_made_again_by_batch_but_what_is_made_of_it(copied: Path, broker: str):
    lake = Lakehouse(uri=str(copied / "lake"))
    graph = defs().resolve_asset_graph().assets_defs
    daily = daily_inputs(asset for asset in graph if isinstance(asset, dg.AssetsDefinition))
    today = datetime.now(UTC).date()
    with configured(copied, broker) as known:
        serving = encoder(known).encoder_id
    before = set(stale(lake, daily, today, serving))
    message = next(iter(lines("messages"))) | {"message_id": "new"}
    latest = lake.read("silver/pages")["fetched_at"].max().isoformat()
    send(broker, [story("new", fetched_at=latest), ("messages", json.dumps(message).encode())])
    drain(copied, broker)
    behind = set(stale(lake, daily, today, serving))
    streamed = {name for name, table in catalog.tables().items() if table.streamed}
    assert not (behind - before) & streamed
    assert {"silver/message_features", "gold/contextual_signals"} <= behind


def test_two_workers_at_once_double_nothing(copied: Path, broker: str):
    made = kills.events(400)
    send(broker, [event[:2] for event in made])
    both = [worker(copied, broker, "--drain", stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    lake = Lakehouse(uri=str(copied / "lake"))
    for table in ("bronze/ad_events", "bronze/social_messages", "bronze/user_sync", "bronze/inventory"):
        streamed = lake.read(table).filter(pl.col("source").str.starts_with("kafka:"))
        assert streamed.height == streamed.select("source", "position").n_unique()
    broken = lake.read("silver/quarantine").filter(
        pl.col("source").str.starts_with("kafka:ad"), pl.col("table") == "bronze/ad_events"
    )
    events = lake.read("bronze/ad_events").filter(pl.col("source").str.starts_with("kafka:")).height
    assert events + broken.height == sum(topic == "ad-events" for topic, _, _ in made)


def test_topics_and_workers_that_come_and_go_lose_and_double_nothing(copied: Path, broker: str):
    made = [event[:2] for event in kills.events(500)]
    early = [event for event in made if event[0] in ("messages", "inventory")]
    later = [event for event in made if event not in early]
    lake, live = Lakehouse(uri=str(copied / "lake")), []

    def settled(topics: list[str], count: int) -> bool:
        """Say whether so many events of these topics have been taken through the tables."""
        places = [
            (pipeline.last_table, place)
            for pipeline in PIPELINES
            if pipeline.topic in topics
            for place in places_of(pipeline)
        ]
        return sum(lake.checkpoint(*place) or 0 for place in places) == count

    def wait(topics: list[str], count: int) -> None:
        until = time.monotonic() + 120
        while not settled(topics, count):
            assert time.monotonic() < until, (topics, count)
            assert all(process.poll() is None for process in live)
            time.sleep(0.1)

    try:
        send(broker, early)
        live.append(worker(copied, broker))
        wait(["messages", "inventory"], len(early))
        send(broker, later[:200])
        wait(["ad-events", "user-sync"], 200)
        live.append(worker(copied, broker))
        live.pop(0).kill()
        produce(broker, later[200:])
        wait(["ad-events", "user-sync"], len(later))
    finally:
        for process in live:
            process.terminate()
            process.wait()
    quarantined = lake.read("silver/quarantine")
    for pipeline in (pipeline for pipeline in PIPELINES if pipeline.topic in kills.KEYS):
        sent, of_topic = sum(topic == pipeline.topic for topic, _ in made), pl.col("source").is_in(places_of(pipeline))
        rows = lake.read(pipeline.bronze.table).filter(of_topic)
        broken = quarantined.filter(of_topic, pl.col("table") == pipeline.bronze.table)
        places = pl.concat([part.select("source", "position") for part in (rows, broken)])
        assert places.height == places.n_unique() == sent, pipeline.topic


def test_what_a_rival_appends_before_it_is_killed_is_taken_through(copied: Path, broker: str, monkeypatch):
    events = [event[:2] for event in kills.events(6_000) if event[0] == "user-sync"]
    send(broker, events)
    looked, lake = serving_stream.backlog, Lakehouse(uri=str(copied / "lake"))
    appended = []

    def looked_before_a_rival_appends(known, partitions):
        found = looked(known, partitions)
        if len(appended) < 2:
            with closing(TopicReader(broker)) as rival:
                rival.seek(ingested_positions(lake, partitions))
                batch = rival.read(50, 10, 10_000)
                appended.append(ingest_batch(known, rival, batch).events)
        return found

    monkeypatch.setattr(serving_stream, "backlog", looked_before_a_rival_appends)
    drain(copied, broker)
    assert min(appended) > 0
    places = places_of(next(pipeline for pipeline in PIPELINES if pipeline.topic == "user-sync"))
    assert sum(lake.checkpoint("silver/user_sync", place) for place in places) == len(events)
    of_topic = pl.col("source").is_in(places)
    bronze, silver = (lake.read(f"{layer}/user_sync").filter(of_topic).height for layer in ("bronze", "silver"))
    refused = lake.read("silver/quarantine").filter(of_topic, pl.col("table") == "silver/user_sync").height
    assert bronze > 100
    assert silver + refused == bronze


def test_workers_and_brokers_killed_at_random_moments_lose_and_double_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    asked = ["--events", "1000", "--kills", "5", "--longest", "3"]
    program = [SEAMLESS.with_name("python"), "-m", "benchmarks.kills", *asked]
    ran = subprocess.run(
        program, cwd=PROJECT, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=300
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{ran.stdout}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("'same': True") == len(kills.KEYS)


def mutated(chance: random.Random, body: bytes) -> bytes:
    """Return a record with one thing wrong, or not."""
    at = chance.randrange(len(body))
    fields = json.loads(body)
    name = chance.choice(list(fields))
    others: list[object] = [None, 1e308, -(2**70), "x" * 2_000, [], {}, True, "\ud800", {"a": {"b": [1] * 50}}]
    return chance.choice(
        [
            body[:at],
            body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :],
            body[:at] + b"\x00" + body[at:],
            json.dumps(fields | {name: chance.choice(others)}).encode(),
            json.dumps({key: value for key, value in fields.items() if key != name}).encode(),
            json.dumps(fields | {chance.choice(["source", "a b", "É", "Position"]): 1}).encode(),
            json.dumps([fields]).encode(),
            b"[" * 2_000,
            b"",
        ]
    )


def test_every_malformed_event_is_in_quarantine_or_in_silver(copied: Path, broker: str):
    chance, events = random.Random(5), []
    for folder in ("rtb_auctions", "pages", "messages"):
        pool = [json.dumps(record).encode() for record in lines(folder) if isinstance(record, dict)]
        events += [(folder.replace("_", "-"), mutated(chance, chance.choice(pool))) for _ in range(200)]
    events = [(topic, body) for topic, body in events if len(body) < 900_000]
    send(broker, events)
    drain(copied, broker)
    lake = Lakehouse(uri=str(copied / "lake"))
    mine = pl.col("source").str.starts_with("kafka:")
    quarantined = lake.read("silver/quarantine").filter(mine)
    for topic, bronze, silver in (
        ("rtb-auctions", "bronze/rtb_auctions", "silver/rtb_auctions"),
        ("pages", "bronze/page_fetches", "silver/pages"),
        ("messages", "bronze/social_messages", "silver/messages"),
    ):
        received = lake.read(bronze).filter(mine)
        refused = quarantined.filter(pl.col("table") == bronze).height
        assert received.height + refused == sum(one == topic for one, _ in events)
        if topic == "pages":
            received = received.filter(~pl.col("content_type").fill_null("").str.starts_with("image/"))
        later = quarantined.filter(pl.col("table") == silver).height
        assert lake.read(silver).filter(mine).height + later == received.height
        assert refused > 50
