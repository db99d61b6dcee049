"""`seamless stream`: one long-running worker, from topics to tables and published signals.

What has been read is in the tables, with the rows: a worker that is killed at any point starts where the tables end.
"""

import gc
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import dagster as dg
import polars as pl
from deltalake.exceptions import CommitFailedError

from governance.quality import prepare_rules
from platform_assets.bronze import SCHEMAS
from platform_assets.conventions import table_key
from platform_assets.ingestion import Increment, append, prepare
from platform_assets.operations.stream_lag import CHECK, LAG, TABLES, verdict
from platform_assets.parsing import declared
from platform_assets.published.signal_store import put
from platform_assets.silver import embeddings
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.serving_models import serving_models
from resources.settings import Settings
from resources.signal_store import SignalStore, signal_store
from resources.sources.topics import Batch, BrokerError, Partition, Reader
from resources.sources.topics import reader as reader_of_topics
from serving.stream.embedding_cache import EmbeddingCache
from serving.stream.flows import FLOWS, Flow, Prefetch, StreamState, Worker

# How often Dagster is told, which each micro-batch would cost more than the micro-batch.
TELL_SECONDS = 10.0
# How often it is looked up which encoder and versions answer, a few queries of the registry, 30 ms each, and whether
# there are topics or partitions that were not there before.
LOOK_SECONDS = 5.0
# How long the broker is waited for then.
LOOK_PATIENCE = 1.0
QUICK_SECONDS, SLOW_SECONDS = 2.0, 5.0
LEAST_EVENTS, MOST_EVENTS = 50, 100_000
# A micro-batch is at most so many times as large as the one before it.
GROWTH = 25
# After as many commits, a table's small files are put together.
COMMITS = 200
TOPICS = [flow.topic for flow in FLOWS]


@dataclass
class IngestedBatch:
    """A micro-batch that bronze holds.

    Attributes:
        events: how many they are.
        oldest: when the broker got the first of them, seconds since 1970; None if there is none.
        last: there is none, and every topic has been read to its end.
        prefetch: what has been worked out of them.
        rows: of each flow that got some, with the positions after them.
    """

    events: int
    oldest: float | None
    last: bool
    prefetch: Prefetch
    rows: list[tuple[Flow, pl.DataFrame, dict[str, int]]] = field(default_factory=list)


@dataclass
class BatchStats:
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
class BatchSizer:
    """How many events a micro-batch holds at most: as many as are worked on in a few seconds.

    A backlog of events that are quick to work on is drained in ever larger batches, whose commits cost the same; while
    pages wait, each batch is small enough that the next signals are not far off.
    """

    most: int

    def follow(self, events: int, seconds: float) -> None:
        """Take the size of the next micro-batch from the time that half of the way took one."""
        if events >= self.most and seconds < QUICK_SECONDS:
            self.most = min(int(self.most * min(QUICK_SECONDS / seconds, GROWTH)), MOST_EVENTS)
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
    tables, reader = prepared(settings), reader_of_topics(settings)
    with closing(reader), closing(signal_store(settings)) as store, dg.DagsterInstance.get() as instance:
        partitions = reader.offered(TOPICS)
        if not partitions:
            raise BrokerError(f"the broker at {reader.servers} has none of the topics {', '.join(TOPICS)}")
        suit_the_interpreter()
        # The broker sends what comes first while the encoder is still being loaded.
        reader.seek(positions(tables, partitions))
        serving = serving_models(settings)
        known, sizer = EmbeddingCache(tables, serving.encoder), BatchSizer(settings.stream_events)

        def read_on(*, look: bool = False) -> IngestedBatch:
            more = added(reader) if look else set()
            if more:
                return resumed(known, reader, reader.partitions | more)
            batch = reader.read(
                sizer.most, settings.stream_seconds, settings.max_record_bytes, to_the_end=until_drained
            )
            began = time.monotonic()
            found = ingest_batch(known, reader, batch)
            sizer.follow(found.events, time.monotonic() - began)
            return found

        # While one micro-batch is taken through the tables, and before it the champions are loaded, the next is read
        # into bronze.
        with ThreadPoolExecutor(1) as other:
            batch = backlog(known, partitions)
            coming = other.submit(read_on)
            worker = Worker(serving, f"stream-{uuid.uuid4()}", known, StreamState(tables))
            looked = told = time.monotonic()
            stats = BatchStats()
            process_batch(worker, store, batch, stats)
            while True:
                try:
                    batch = coming.result()
                except CommitFailedError:
                    # Another worker has been faster: nothing of this is kept, and what comes after it is read.
                    batch = resumed(known, reader, reader.partitions)
                began = time.monotonic()
                look = began - looked >= LOOK_SECONDS
                coming = other.submit(read_on, look=look)
                if look:
                    looked, worker = began, refreshed(worker)
                    known = worker.known
                process_batch(worker, store, batch, stats)
                sizer.follow(batch.events, time.monotonic() - began)
                over = until_drained and batch.last
                if over or time.monotonic() - told >= TELL_SECONDS:
                    _tell(instance, worker, stats, settings, say)
                    told, stats = time.monotonic(), BatchStats()
                if over:
                    return


def suit_the_interpreter() -> None:
    """Have Python look for cycles more rarely, and hand its lock on more often.

    Records come by the ten thousand, and looking for cycles among them takes half of their time. Each of the hundreds
    of short calls that take a micro-batch through the tables waits for the lock while the next is read in a loop.
    """
    gc.freeze()
    gc.set_threshold(200_000)
    sys.setswitchinterval(0.0005)


def prepared(settings: Settings) -> Lakehouse:
    """Return the lakehouse, in which the tables that the stream reads and writes exist."""
    tables = lakehouse(settings, streaming=True)
    for expected in SCHEMAS:
        prepare(tables, expected, datetime.now(UTC))
    if not tables.exists(embeddings.TABLE):
        tables.insert_missing(embeddings.TABLE, pl.DataFrame(schema=embeddings.SCHEMA), embeddings.KEY)
    prepare_rules()
    return tables


def refreshed(worker: Worker) -> Worker:
    """Return the worker with the encoder and the models that answer now."""
    serving = worker.serving.refreshed()
    if serving.encoder is worker.serving.encoder:
        return replace(worker, serving=serving)
    return replace(worker, serving=serving, known=EmbeddingCache(worker.known.lakehouse, serving.encoder))


def backlog(known: EmbeddingCache, partitions: Iterable[Partition]) -> IngestedBatch:
    """Return what bronze holds and later tables do not: what a kill has left undone."""
    found = IngestedBatch(0, None, last=False, prefetch=Prefetch(known.encoder.encoder_id))
    for flow in FLOWS:
        sources = [source_of(partition) for partition in partitions if partition[0] == flow.topic]
        rows, reached = flow.backlog(known.lakehouse, sources)
        if reached:
            found.rows.append((flow, rows, reached))
    return found


def added(reader: Reader) -> set[Partition]:
    """Return partitions that have come to exist and are not read yet; none from a broker that does not answer."""
    try:
        return reader.offered(TOPICS, LOOK_PATIENCE) - reader.partitions
    except BrokerError:
        return set()


def resumed(known: EmbeddingCache, reader: Reader, partitions: Iterable[Partition]) -> IngestedBatch:
    """Have partitions read from where the tables end, and return what has been left undone of them before that.

    What another worker appends meanwhile is part of what is undone, or read again: that worker may be killed.
    """
    ends = positions(known.lakehouse, partitions)
    found = backlog(known, partitions)
    reader.seek(ends)
    return found


def ingest_batch(known: EmbeddingCache, reader: Reader, batch: Batch) -> IngestedBatch:
    """Append what has been read to bronze, with how far, and work out of it what takes long.

    Raises:
        CommitFailedError: another worker has read the same; what of it is in bronze is that worker's.
    """
    found = IngestedBatch(
        events=sum(map(len, batch.records.values())),
        oldest=batch.oldest,
        last=not batch.records and reader.drained,
        prefetch=Prefetch(known.encoder.encoder_id),
    )
    for flow in FLOWS:
        increments, reached = list[Increment](), dict[str, int]()
        for partition in (one for one in batch.records if one[0] == flow.topic):
            source = source_of(partition)
            before, reached[source] = {source: batch.started[partition]}, batch.reached[partition]
            increments.append(Increment(source, batch.records[partition], before, {source: reached[source]}))
        if increments:
            appended, _ = append(known.lakehouse, flow.bronze, increments, datetime.now(UTC))
            rows = declared(appended, flow.bronze)
            found.rows.append((flow, rows, reached))
            if flow.look_ahead is not None:
                flow.look_ahead(known, rows, found.prefetch)
    return found


def process_batch(worker: Worker, store: SignalStore, batch: IngestedBatch, stats: BatchStats) -> None:
    """Take what is in bronze through the tables, and publish its signals."""
    for flow, rows, reached in batch.rows:
        stats.flows.add(flow.topic)
        stats.published += _process(worker, store, flow, rows, reached, batch.prefetch)
    if batch.oldest is not None:
        stats.lag_seconds = max(stats.lag_seconds, time.time() - batch.oldest)
    stats.events += batch.events


def positions(tables: Lakehouse, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
    """Return up to where each partition has been read, as the bronze tables say."""
    bronze = {flow.topic: flow.bronze.table for flow in FLOWS}
    return {partition: tables.checkpoint(bronze[partition[0]], source_of(partition)) for partition in partitions}


def source_of(partition: Partition) -> str:
    """Return what names a partition in every row that comes from it."""
    return f"kafka:{partition[0]}:{partition[1]}"


def _process(
    worker: Worker, store: SignalStore, flow: Flow, rows: pl.DataFrame, reached: dict[str, int], prefetch: Prefetch
) -> int:
    """Take rows through, publish their signals, and only then note how far: a kill in between does it all again."""
    signals = flow.process(worker, rows, prefetch)
    published = 0 if signals is None else put(store, signals)
    flow.done(worker.known.lakehouse, reached)
    return published


def _tell(
    instance: dg.DagsterInstance, worker: Worker, stats: BatchStats, settings: Settings, say: Callable[[str], None]
) -> None:
    """Show the tables as live in the graph, and whether they keep up; say a line, and put small files together."""
    lag, now = round(stats.lag_seconds, 3), datetime.now(UTC)
    figures = {"events": stats.events, "pages_published": stats.published, LAG: dg.MetadataValue.float(lag)}
    passed, why = verdict([(now, figures)], now, settings.stream_lag_seconds)
    flows, tables = [flow for flow in FLOWS if flow.topic in stats.flows], worker.known.lakehouse
    for table in sorted({table for flow in flows for table in (flow.bronze.table, flow.last)}):
        (version, rows), key = tables.state(table), table_key(table)
        state = {"dagster/row_count": rows, "delta_version": version, "run_id": worker.run_id}
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata={**state, **figures}))
        if key in TABLES:
            warned = dg.AssetCheckSeverity.WARN
            check = dg.AssetCheckEvaluation(key, CHECK, passed, {LAG: lag}, severity=warned, description=why)
            instance.report_runless_asset_event(check)
        tables.compact(table, COMMITS)
    say(f"{stats.events} events, {stats.published} pages published, lag {lag:.1f} s at most")
