"""`seamless stream`: one long-running worker, from topics to tables and published signals.

What has been read is in the tables, with the rows: a worker that is killed at any point starts where the tables end.
"""

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import dagster as dg
import polars as pl
from deltalake.exceptions import CommitFailedError

from governance.quality import prepare_rules
from platform_assets.bronze import RECEIVED
from platform_assets.conventions import table_key
from platform_assets.operations.stream_keeps_up import CHECK, LAG, TABLES, verdict
from platform_assets.receiving import Reading, append, prepare
from platform_assets.silver import embeddings
from platform_assets.silver.decisions import champions
from platform_assets.streaming import FLOWS, Flow, Worker
from resources.encoder import Encoder
from resources.encoder import encoder as serving_encoder
from resources.lakehouse import DAY, Lakehouse, lakehouse
from resources.registry import registry
from resources.settings import Settings
from resources.signal_store import SignalStore, signal_store
from resources.streams import Batch, BrokerError, Partition, Reader, streams
from signals.scoring import Model

# How often Dagster is told, which each micro-batch would cost more than the micro-batch, and champions are looked up.
TELL_SECONDS = 10.0
QUICK_SECONDS, SLOW_SECONDS = 2.0, 5.0
LEAST_EVENTS, MOST_EVENTS = 50, 50_000
# After as many commits, a table's small files are put together.
COMMITS = 200


@dataclass
class Tally:
    """What has happened since Dagster was told last.

    Attributes:
        events: how many have been worked on.
        published: pages whose signals are in the store.
        lag_seconds: the longest that an event has waited.
        flows: topics that events came from.
    """

    events: int = 0
    published: int = 0
    lag_seconds: float = 0.0
    flows: set[str] = field(default_factory=set)


@dataclass
class Pace:
    """How many events a micro-batch holds at most: as many as are worked on in a few seconds.

    A backlog of events that are quick to work on is drained in ever larger batches, whose commits cost the same; while
    pages wait, each batch is small enough that the next signals are not far off.
    """

    most: int

    def follow(self, events: int, seconds: float) -> None:
        """Take the size of the next micro-batch from the last."""
        if events >= self.most and seconds < QUICK_SECONDS:
            self.most = min(self.most * 2, MOST_EVENTS)
        elif seconds > SLOW_SECONDS:
            self.most = max(self.most // 2, LEAST_EVENTS)


def stream(settings: Settings, *, until_drained: bool, say: Callable[[str], None]) -> None:
    """Read topics until interrupted, or until nothing is left in them.

    Args:
        settings: broker, lakehouse, store and size of a micro-batch.
        until_drained: end once every topic has been read to its end.
        say: is given a line about what has been done, now and then.

    Raises:
        BrokerError: the broker does not answer, or has none of the topics.
    """
    worker, broker = prepared(settings), streams(settings)
    topics = [flow.topic for flow in FLOWS]
    partitions = broker.partitions(topics)
    if not partitions:
        raise BrokerError(f"the broker at {broker.bootstrap_servers} has none of the topics {', '.join(topics)}")
    with closing(signal_store(settings)) as store, dg.DagsterInstance.get() as instance:
        catch_up(worker, store, partitions)
        with closing(broker.reader(positions(worker.lakehouse, partitions))) as reader:
            told, tally, pace = time.monotonic(), Tally(), Pace(settings.stream_events)
            while True:
                began = time.monotonic()
                batch = reader.read(pace.most, settings.stream_seconds, settings.max_record_bytes)
                events = micro_batch(worker, store, reader, batch, tally)
                pace.follow(events, time.monotonic() - began)
                over = until_drained and not events and reader.drained
                if over or time.monotonic() - told >= TELL_SECONDS:
                    _tell(instance, worker, tally, settings, say)
                    told, tally = time.monotonic(), Tally()
                    encoder = worker.encoder.now()
                    worker = replace(worker, encoder=encoder, models=serving_models(settings, encoder))
                if over:
                    return


def prepared(settings: Settings) -> Worker:
    """Return a worker whose tables exist and whose champions are loaded."""
    tables, encoder = lakehouse(settings), serving_encoder(settings)
    for expected in RECEIVED:
        prepare(tables, expected, datetime.now(UTC))
    prepare_rules()
    tables.insert_missing(embeddings.TABLE, pl.DataFrame(schema=embeddings.SCHEMA), embeddings.KEY)
    return Worker(tables, encoder, serving_models(settings, encoder), f"stream-{uuid.uuid4()}")


def serving_models(settings: Settings, encoder: Encoder) -> dict[str, Model]:
    """Return the champions as they are now: one that is promoted or rolled back serves from the next call on."""
    return champions(registry(settings).under(encoder.digest), encoder.transform_id)


def catch_up(worker: Worker, store: SignalStore, partitions: Iterable[Partition]) -> None:
    """Take through what bronze holds and later tables do not: what a kill left undone."""
    for flow in FLOWS:
        sources = [source_of(partition) for partition in partitions if partition[0] == flow.topic]
        rows, reached = flow.undone(worker.lakehouse, sources)
        if reached:
            _advance(worker, store, flow, rows, reached)


def micro_batch(worker: Worker, store: SignalStore, reader: Reader, batch: Batch, tally: Tally) -> int:
    """Take what has been read through the tables, publish its signals; return how many events it was.

    Where another worker has been faster, nothing of it is kept, and the reader goes to where that one has come.
    """
    for flow in FLOWS:
        readings = [
            Reading(source_of(one), records, {source_of(one): batch.started[one]}, {source_of(one): batch.reached[one]})
            for one, records in batch.records.items()
            if one[0] == flow.topic
        ]
        if not readings:
            continue
        try:
            rows, _ = append(worker.lakehouse, flow.bronze, readings, datetime.now(UTC))
        except CommitFailedError:
            catch_up(worker, store, reader.partitions)
            reader.seek(positions(worker.lakehouse, reader.partitions))
            return 0
        tally.flows.add(flow.topic)
        reached = {source: position for reading in readings for source, position in reading.reached.items()}
        tally.published += _advance(worker, store, flow, rows, reached)
    if batch.oldest is not None:
        tally.lag_seconds = max(tally.lag_seconds, time.time() - batch.oldest)
    events = sum(map(len, batch.records.values()))
    tally.events += events
    return events


def positions(tables: Lakehouse, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
    """Return up to where each partition has been read, as the bronze tables say."""
    bronze = {flow.topic: flow.bronze.table for flow in FLOWS}
    return {partition: tables.position(bronze[partition[0]], source_of(partition)) for partition in partitions}


def source_of(partition: Partition) -> str:
    """Return what names a partition in every row that comes from it."""
    return f"kafka:{partition[0]}:{partition[1]}"


def _advance(worker: Worker, store: SignalStore, flow: Flow, rows: pl.DataFrame, reached: dict[str, int]) -> int:
    """Take rows through, publish their signals, and only then note how far: a kill in between does it all again."""
    signals, published = flow.advance(worker, rows), 0
    if signals is not None:
        moments = pl.col("fetched_at", "published_on").cast(pl.String)
        published = store.put(signals.drop("source", "position", "received_at", DAY).with_columns(moments).to_dicts())
    flow.done(worker.lakehouse, reached)
    return published


def _tell(
    instance: dg.DagsterInstance, worker: Worker, tally: Tally, settings: Settings, say: Callable[[str], None]
) -> None:
    """Show the tables as live in the graph, and whether they keep up; say a line, and put small files together."""
    lag, now = round(tally.lag_seconds, 3), datetime.now(UTC)
    figures = {"events": tally.events, "pages_published": tally.published, LAG: dg.MetadataValue.float(lag)}
    passed, why = verdict([(now, figures)], now, settings.stream_lag_seconds)
    flows = [flow for flow in FLOWS if flow.topic in tally.flows]
    for table in sorted({table for flow in flows for table in (flow.bronze.table, flow.last)}):
        (version, rows), key = worker.lakehouse.state(table), table_key(table)
        state = {"dagster/row_count": rows, "delta_version": version, "run_id": worker.run_id}
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata={**state, **figures}))
        if key in TABLES:
            warned = dg.AssetCheckSeverity.WARN
            check = dg.AssetCheckEvaluation(key, CHECK, passed, {LAG: lag}, severity=warned, description=why)
            instance.report_runless_asset_event(check)
        worker.lakehouse.compact(table, COMMITS)
    say(f"{tally.events} events, {tally.published} pages published, lag {lag:.1f} s at most")
