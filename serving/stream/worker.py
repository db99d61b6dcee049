"""`seamless stream`: one long-running worker, from topics to tables and published signals.

Each commit holds rows together with the positions up to which they were read. So a worker that was killed at any point
resumes where the tables end.
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
from platform_assets.ingestion import append, prepare
from platform_assets.operations.stream_lag import CHECK, LAG, TABLES, verdict
from platform_assets.parsing import declared
from platform_assets.published import signal_store as signal_store_table
from platform_assets.silver import embeddings as embeddings_table
from resources.lakehouse.disk import compact
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.landing.increments import Increment
from resources.serving_models import serving_models
from resources.settings import Settings
from resources.signal_store.stores import signal_store
from resources.sources.topics import Batch, BrokerError, Partition, TopicReader, topic_reader
from serving.stream.embedding_cache import EmbeddingCache
from serving.stream.pipelines import PIPELINES, Prefetch, ProcessingContext, StreamState, TopicPipeline

# Seconds between two reports to Dagster: one a micro-batch would cost more than the micro-batch.
REPORT_SECONDS = 10.0
# Seconds between two looks at the registry (a few queries of 30 ms) and at the broker's list of partitions.
REFRESH_SECONDS = 5.0
# Seconds that such a look waits for the broker.
REFRESH_TIMEOUT = 1.0
# A micro-batch that takes less time grows, one that takes more shrinks.
FAST_SECONDS, SLOW_SECONDS = 2.0, 5.0
MIN_EVENTS, MAX_EVENTS = 50, 100_000
# Largest factor by which one micro-batch exceeds the one before it.
MAX_GROWTH = 25
# Small files of a day that are left as they are.
SMALL_FILES = 100
TOPICS = [pipeline.topic for pipeline in PIPELINES]


@dataclass
class IngestedBatch:
    """A micro-batch that bronze holds.

    Attributes:
        events: number of events.
        oldest_timestamp: when the broker received the first event, seconds since 1970; None without events.
        drained: it has no events, and every topic was read to its end.
        prefetch: results that were computed from its rows.
        parts: rows of each pipeline that received some, with the positions after them.
    """

    events: int
    oldest_timestamp: float | None
    drained: bool
    prefetch: Prefetch
    parts: list[tuple[TopicPipeline, pl.DataFrame, dict[str, int]]] = field(default_factory=list)


@dataclass
class BatchStats:
    """Counts since the last report to Dagster.

    Attributes:
        events: events that were processed.
        published: pages whose signals are in the store.
        lag_seconds: longest time between an event's arrival at the broker and the end of its processing.
        topics: topics that events came from.
    """

    events: int = 0
    published: int = 0
    lag_seconds: float = 0.0
    topics: set[str] = field(default_factory=set)


@dataclass
class BatchSizer:
    """Largest number of events in a micro-batch: as many as are processed in a few seconds.

    A backlog of cheap events is drained in ever larger batches, whose commits cost the same. While pages wait, each
    batch is small, so that signals are published often.
    """

    max_events: int

    def adjust(self, events: int, seconds: float) -> None:
        """Adjust the size of the next micro-batch to the time that one stage of the last took."""
        if events >= self.max_events and seconds < FAST_SECONDS:
            self.max_events = min(int(self.max_events * min(FAST_SECONDS / seconds, MAX_GROWTH)), MAX_EVENTS)
        elif seconds > SLOW_SECONDS:
            self.max_events = max(self.max_events // 2, MIN_EVENTS)


def stream(settings: Settings, *, until_drained: bool, log: Callable[[str], None]) -> None:
    """Read topics until interrupted, or until every topic was read to its end.

    Args:
        settings: broker, lakehouse, store and size of a micro-batch.
        until_drained: end once every topic was read to its end.
        log: receives a line of progress now and then.

    Raises:
        BrokerError: the broker does not answer, or has none of the topics.
    """
    tables, reader = prepare_tables(settings), topic_reader(settings)
    with closing(reader), closing(signal_store(settings)) as store, dg.DagsterInstance.get() as instance:
        partitions = reader.list_partitions(TOPICS)
        if not partitions:
            raise BrokerError(f"the broker at {reader.servers} has none of the topics {', '.join(TOPICS)}")
        tune_interpreter()
        # The broker sends the first events while the encoder is being loaded.
        reader.seek(ingested_positions(tables, partitions))
        serving = serving_models(settings)
        embeddings, sizer = EmbeddingCache(tables, serving.encoder), BatchSizer(settings.stream_events)

        def ingest_next(*, refresh: bool = False) -> IngestedBatch:
            added = new_partitions(reader) if refresh else set()
            if added:
                return resume(embeddings, reader, reader.partitions | added)
            read = reader.read(
                sizer.max_events, settings.stream_seconds, settings.max_record_bytes, to_the_end=until_drained
            )
            started = time.monotonic()
            ingested = ingest_batch(embeddings, reader, read)
            sizer.adjust(ingested.events, time.monotonic() - started)
            return ingested

        # The next micro-batch is ingested while one is processed, and while the champions are loaded.
        with ThreadPoolExecutor(1) as ingestion:
            batch = backlog(embeddings, partitions)
            next_batch = ingestion.submit(ingest_next)
            context = ProcessingContext(serving, f"stream-{uuid.uuid4()}", embeddings, StreamState(tables), store)
            refreshed_at = reported_at = time.monotonic()
            stats = BatchStats()
            process_batch(context, batch, stats)
            while True:
                try:
                    batch = next_batch.result()
                except CommitFailedError:
                    # Another worker was faster: drop this batch and read what follows that worker's.
                    batch = resume(embeddings, reader, reader.partitions)
                started = time.monotonic()
                refresh = started - refreshed_at >= REFRESH_SECONDS
                next_batch = ingestion.submit(ingest_next, refresh=refresh)
                if refresh:
                    refreshed_at, context = started, refreshed(context)
                    embeddings = context.embeddings
                process_batch(context, batch, stats)
                sizer.adjust(batch.events, time.monotonic() - started)
                finished = until_drained and batch.drained
                if finished or time.monotonic() - reported_at >= REPORT_SECONDS:
                    _report(instance, context, stats, settings, log)
                    reported_at, stats = time.monotonic(), BatchStats()
                if finished:
                    return


def tune_interpreter() -> None:
    """Have Python collect garbage more rarely, and release its lock more often.

    Records come by the ten thousand, and the search for cycles among them takes half of their time. Each of the
    hundreds of short calls that process a micro-batch waits for the lock that the ingesting loop holds.
    """
    gc.freeze()
    gc.set_threshold(200_000)
    sys.setswitchinterval(0.0005)


def prepare_tables(settings: Settings) -> Lakehouse:
    """Return the lakehouse after creating the tables that the stream reads and writes."""
    tables = lakehouse(settings, streaming=True)
    for schema in SCHEMAS:
        prepare(tables, schema, datetime.now(UTC))
    if not tables.exists(embeddings_table.TABLE):
        tables.insert_missing(
            embeddings_table.TABLE, pl.DataFrame(schema=embeddings_table.SCHEMA), embeddings_table.KEY
        )
    prepare_rules()
    return tables


def refreshed(context: ProcessingContext) -> ProcessingContext:
    """Return the context with the encoder and the models that answer now."""
    serving = context.serving.refreshed()
    if serving.encoder is context.serving.encoder:
        return replace(context, serving=serving)
    embeddings = EmbeddingCache(context.embeddings.lakehouse, serving.encoder)
    return replace(context, serving=serving, embeddings=embeddings)


def backlog(embeddings: EmbeddingCache, partitions: Iterable[Partition]) -> IngestedBatch:
    """Return the rows that bronze holds and later tables do not: those that a kill left unprocessed."""
    batch = IngestedBatch(0, None, drained=False, prefetch=Prefetch(embeddings.encoder.encoder_id))
    for pipeline in PIPELINES:
        sources = [source_name(partition) for partition in partitions if partition[0] == pipeline.topic]
        rows, positions = pipeline.backlog(embeddings.lakehouse, sources)
        if positions:
            batch.parts.append((pipeline, rows, positions))
    return batch


def new_partitions(reader: TopicReader) -> set[Partition]:
    """Return partitions that exist and are not read yet; none from a broker that does not answer."""
    try:
        return reader.list_partitions(TOPICS, REFRESH_TIMEOUT) - reader.partitions
    except BrokerError:
        return set()


def resume(embeddings: EmbeddingCache, reader: TopicReader, partitions: Iterable[Partition]) -> IngestedBatch:
    """Have partitions read from where the tables end, and return their backlog.

    Positions are read before the backlog. So rows that another worker appends in between are in the backlog or read
    again: that worker may be killed before it processes them.
    """
    positions = ingested_positions(embeddings.lakehouse, partitions)
    batch = backlog(embeddings, partitions)
    reader.seek(positions)
    return batch


def ingest_batch(embeddings: EmbeddingCache, reader: TopicReader, read: Batch) -> IngestedBatch:
    """Append the records of a batch to bronze with their positions, and prefetch.

    Raises:
        CommitFailedError: another worker has read the same positions; bronze holds that worker's rows.
    """
    batch = IngestedBatch(
        events=sum(map(len, read.records.values())),
        oldest_timestamp=read.oldest_timestamp,
        drained=not read.records and reader.drained,
        prefetch=Prefetch(embeddings.encoder.encoder_id),
    )
    for pipeline in PIPELINES:
        increments, positions = list[Increment](), dict[str, int]()
        for partition in (partition for partition in read.records if partition[0] == pipeline.topic):
            source, end = source_name(partition), read.end_positions[partition]
            positions[source] = end
            start = {source: read.start_positions[partition]}
            increments.append(Increment(source, read.records[partition], start, {source: end}))
        if increments:
            appended, _, _ = append(embeddings.lakehouse, pipeline.bronze, increments, datetime.now(UTC))
            rows = declared(appended, pipeline.bronze)
            batch.parts.append((pipeline, rows, positions))
            if pipeline.prefetch is not None:
                pipeline.prefetch(embeddings, rows, batch.prefetch)
    return batch


def process_batch(context: ProcessingContext, batch: IngestedBatch, stats: BatchStats) -> None:
    """Process a batch's bronze rows, and publish their signals."""
    for pipeline, rows, positions in batch.parts:
        made = pipeline.process(context, rows, batch.prefetch)
        if signal_store_table.TABLE in made:
            stats.published += made[signal_store_table.TABLE]["pages"].item()
        # After the signals: a kill in between has the rows processed and published again.
        pipeline.save_positions(context.embeddings.lakehouse, positions)
        stats.topics.add(pipeline.topic)
    if batch.oldest_timestamp is not None:
        stats.lag_seconds = max(stats.lag_seconds, time.time() - batch.oldest_timestamp)
    stats.events += batch.events


def ingested_positions(tables: Lakehouse, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
    """Return the position up to which bronze holds each partition."""
    bronze = {pipeline.topic: pipeline.bronze.table for pipeline in PIPELINES}
    return {partition: tables.checkpoint(bronze[partition[0]], source_name(partition)) for partition in partitions}


def source_name(partition: Partition) -> str:
    """Return the name of a partition in the column ``source``."""
    return f"kafka:{partition[0]}:{partition[1]}"


def _report(
    instance: dg.DagsterInstance,
    context: ProcessingContext,
    stats: BatchStats,
    settings: Settings,
    log: Callable[[str], None],
) -> None:
    """Report the tables' state and lag to Dagster, log a line, and compact small files."""
    lag, now = round(stats.lag_seconds, 3), datetime.now(UTC)
    figures = {"events": stats.events, "pages_published": stats.published, LAG: dg.MetadataValue.float(lag)}
    passed, why = verdict([(now, figures)], now, settings.stream_lag_seconds)
    active, tables = [p for p in PIPELINES if p.topic in stats.topics], context.embeddings.lakehouse
    for table in sorted({table for pipeline in active for table in (pipeline.bronze.table, pipeline.last_table)}):
        (version, rows), key = tables.state(table), table_key(table)
        state = {"dagster/row_count": rows, "delta_version": version, "run_id": context.run_id}
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata={**state, **figures}))
        if key in TABLES:
            warning = dg.AssetCheckSeverity.WARN
            check = dg.AssetCheckEvaluation(key, CHECK, passed, {LAG: lag}, severity=warning, description=why)
            instance.report_runless_asset_event(check)
    for table in filter(tables.exists, sorted({*(p.bronze.table for p in active), *context.state.tables})):
        compact(tables, table, SMALL_FILES)
    log(f"{stats.events} events, {stats.published} pages published, lag {lag:.1f} s at most")
