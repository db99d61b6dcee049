"""One pipeline a topic: from bronze rows to silver rows, decisions and signals, with the functions that batch uses.

The catalog says which tables the stream makes of a topic's rows, and the asset graph says in which order. A pipeline's
bronze table stores the position up to which its topic was read. Its last table stores the position up to which rows
were processed and published. The rows between the two, which a kill has left, are the backlog.

Slow work, reading pages and encoding, is prefetched while the previous micro-batch is processed. Prefetched results are
keyed by their input, so a micro-batch gives the same rows with and without them.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter

import dagster as dg
import polars as pl

from governance import catalog
from platform_assets import published, silver
from platform_assets.aliases import Aliases
from platform_assets.bronze import SCHEMAS, page_fetches, social_messages
from platform_assets.bronze import ad_events as bronze_ad_events
from platform_assets.bronze import inventory as bronze_inventory
from platform_assets.bronze import rtb_auctions as bronze_rtb_auctions
from platform_assets.bronze import user_sync as bronze_user_sync
from platform_assets.parsing import SourceSchema, declared
from platform_assets.published import signal_store
from platform_assets.publishing import Stage, publish_increment, quarantine
from platform_assets.silver import (
    ad_events,
    decisions,
    embeddings,
    images,
    inventory,
    message_signals,
    messages,
    page_signals,
    pages,
    rtb_auctions,
    user_sync,
)
from resources import transform_bundles
from resources.lakehouse.days import days_of
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from resources.serving_models import ServingModels
from resources.signal_store.stores import SignalStore
from resources.workers import pages as page_workers
from serving.stream.embedding_cache import EmbeddingCache, Vectors
from signals.consumer_record import message_record, page_record
from signals.documents.pages import Article, Fetch
from signals.documents.text import document_text, normal_forms

SERVED_BY = "stream"
# Pages that are parsed before their encoding starts.
ENCODING_CHUNK = 16


@dataclass(frozen=True)
class Prefetch:
    """Results that were computed before a micro-batch is processed.

    Attributes:
        encoder_id: encoder of the vectors; another may serve by the time they are used.
        articles: by fetch.
        vectors: by content hash.
    """

    encoder_id: str
    articles: dict[Fetch, Article] = field(default_factory=dict)
    vectors: Vectors = field(default_factory=dict)


class StreamState:
    """The parts of the tables' content that every micro-batch needs: keys, and addresses of pages."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse, self.aliases = lakehouse, Aliases(lakehouse)
        self._keys: dict[str, KeyIndex] = {}

    @property
    def tables(self) -> set[str]:
        """Tables other than bronze that may have been written."""
        return {*self._keys, embeddings.TABLE, decisions.TABLE}

    def publish(self, table: str, stage: Stage, rows: pl.DataFrame, *, several: bool = False) -> pl.DataFrame:
        """Add the rows that a stage makes to a table. See ``publish_increment``."""
        if table not in self._keys:
            self._keys[table] = KeyIndex(self.lakehouse, table)
        return publish_increment(self.lakehouse, table, stage, rows, self._keys[table], several=several)


@dataclass(frozen=True)
class ProcessingContext:
    """Everything that a pipeline processes rows with.

    Attributes:
        serving: the encoder and the models that answer.
        run_id: run that decisions name.
        embeddings: cache of vectors, which also names the lakehouse.
        state: keys and aliases of the tables.
        store: where signals are published.
    """

    serving: ServingModels
    run_id: str
    embeddings: EmbeddingCache
    state: StreamState
    store: SignalStore


# Rows of one micro-batch of a topic, by table.
Rows = dict[str, pl.DataFrame]
# Makes a table's rows of a micro-batch from those of its inputs, writes them, and returns them.
Hop = Callable[[ProcessingContext, Rows, Prefetch], pl.DataFrame]


@dataclass(frozen=True)
class TopicPipeline:
    """The tables that one topic's rows go through.

    Attributes:
        bronze: schema of its bronze table.
        tables: tables that the stream makes of its rows, each after those that it is made from.
        prefetch: adds to a ``Prefetch`` the results that bronze rows alone determine.
    """

    bronze: SourceSchema
    tables: tuple[str, ...]
    prefetch: Callable[[EmbeddingCache, pl.DataFrame, Prefetch], None] | None = None

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self.bronze.topic or ""

    @property
    def last_table(self) -> str:
        """Table that keeps the processed position: the last in silver; bronze itself if batch does the rest."""
        return [self.bronze.table, *(table for table in self.tables if table.startswith("silver/"))][-1]

    def process(self, context: ProcessingContext, received: pl.DataFrame, prefetch: Prefetch) -> Rows:
        """Make the rows of every table from bronze rows; return them by table."""
        rows = {self.bronze.table: received}
        for table in self.tables:
            rows[table] = HOPS[table](context, rows, prefetch)
        return rows

    def save_positions(self, lakehouse: Lakehouse, positions: Mapping[str, int]) -> None:
        """Store the positions up to which each source was processed and published."""
        if self.last_table != self.bronze.table:
            lakehouse.save_checkpoints(self.last_table, positions)

    def backlog(self, lakehouse: Lakehouse, sources: Iterable[str]) -> tuple[pl.DataFrame, dict[str, int]]:
        """Return the bronze rows of some sources that were not processed, and the positions after them."""
        ingested = {source: lakehouse.checkpoint(self.bronze.table, source) or 0 for source in sources}
        processed = {source: lakehouse.checkpoint(self.last_table, source) or 0 for source in ingested}
        behind = {source: position for source, position in ingested.items() if processed[source] < position}
        if not behind:
            return pl.DataFrame(), behind
        pending = ((pl.col("source") == source) & (pl.col("position") > processed[source]) for source in behind)
        rows = lakehouse.scan(self.bronze.table).filter(pl.any_horizontal(pending)).collect()
        return declared(rows, self.bronze), behind


def prefetch_messages(embeddings: EmbeddingCache, received: pl.DataFrame, prefetch: Prefetch) -> None:
    """Add the vectors of messages."""
    texts, hashes = normal_forms(received["text"])
    prefetch.vectors.update(embeddings.encode_missing(zip(hashes, texts, strict=True)))


def prefetch_pages(embeddings: EmbeddingCache, received: pl.DataFrame, prefetch: Prefetch) -> None:
    """Add the articles of pages and their vectors; they are encoded while others are extracted."""
    fetches = pages.fetches_of(received)

    def encode(articles: Iterable[Article]) -> None:
        texts = [(a["content_hash"], document_text(a["title"], a["text"])) for a in articles if not a["failure"]]
        prefetch.vectors.update(embeddings.encode_missing(texts))

    with ThreadPoolExecutor(1) as encoding:
        encodings = []
        for start in range(0, len(fetches), ENCODING_CHUNK):
            articles = page_workers.extract(fetches[start : start + ENCODING_CHUNK])
            prefetch.articles.update(articles)
            encodings.append(encoding.submit(encode, articles.values()))
        for future in encodings:
            future.result()


def make_messages(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/messages of messages."""
    received = rows[social_messages.SCHEMA.table]
    profiles = messages.profiles_of(context.state.lakehouse, received)
    return context.state.publish(messages.TABLE, partial(messages.cleaned, profiles=profiles), received)


def make_pages(context: ProcessingContext, rows: Rows, prefetch: Prefetch) -> pl.DataFrame:
    """Make silver/pages of fetches."""
    stage = partial(pages.extracted, known=prefetch.articles)
    return context.state.publish(pages.TABLE, stage, rows[page_fetches.SCHEMA.table].filter(~pages.IS_IMAGE))


def make_images(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/images of fetches."""
    received = rows[page_fetches.SCHEMA.table].filter(images.HAS_IMAGES).drop("html")
    return context.state.publish(images.TABLE, images.unpacked, received, several=True)


def make_embeddings(context: ProcessingContext, rows: Rows, prefetch: Prefetch) -> pl.DataFrame:
    """Make silver/embeddings of pages or messages."""
    prefetched = prefetch.vectors if prefetch.encoder_id == context.embeddings.encoder.encoder_id else {}
    return context.embeddings.vectors(next(rows[table] for table in embeddings.INPUTS if table in rows), prefetched)


def make_decisions(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Decide the documents of every kind, and return the decisions that consumers read."""
    lakehouse, parts = context.state.lakehouse, []
    for kind, table in decisions.DOCUMENTS.items():
        if table in rows:
            answers, broken = decisions.decided(
                decisions.documents_of(kind, rows[table], rows[embeddings.TABLE]),
                context.serving.models,
                context.serving.encoder,
                input_table=table,
                input_version=lakehouse.version(table),
                run_id=context.run_id,
                served_by=SERVED_BY,
            )
            quarantine(lakehouse, decisions.TABLE, broken)
            parts.append(answers)
    answers = pl.concat(parts)
    if answers.height:
        transform_bundles.keep(lakehouse, context.serving.encoder)
        lakehouse.insert_missing(decisions.TABLE, answers, ["decision_id"], days=days_of(answers))
    return answers.filter(pl.col("traffic_arm") != "shadow")


def make_message_signals(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/message_signals of messages and decisions."""
    stage = partial(message_record, answers=rows[decisions.TABLE])
    return context.state.publish(message_signals.TABLE, stage, rows[messages.TABLE])


def make_page_signals(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/page_signals of pages, images and decisions."""
    pictures, extracted = rows[images.TABLE], rows[pages.TABLE]
    if rows[page_fetches.SCHEMA.table].select(images.HAS_IMAGES.any()).item():
        pictures = images.with_unreadable(pictures, extracted, context.state.lakehouse)
    stage = partial(page_record, images=pictures, answers=rows[decisions.TABLE])
    return context.state.publish(page_signals.TABLE, stage, extracted)


def publish_signals(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Put page signals into the signal store, and return how many ``pages`` it kept."""
    return pl.DataFrame({"pages": [signal_store.put(context.store, rows[page_signals.TABLE])]})


def make_inventory(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/inventory of snapshots, joined with their sellers' declarations as of now."""
    stage = partial(inventory.with_sellers, lakehouse=context.state.lakehouse, aliases=context.state.aliases)
    return context.state.publish(inventory.TABLE, stage, rows[bronze_inventory.SCHEMA.table])


def make_ad_events(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/ad_events of events, joined with their pages."""
    stage = partial(ad_events.with_documents, time_column="event_time", aliases=context.state.aliases)
    return context.state.publish(ad_events.TABLE, stage, rows[bronze_ad_events.SCHEMA.table])


def make_rtb_auctions(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/rtb_auctions of auctions."""
    received = rows[bronze_rtb_auctions.SCHEMA.table]
    return context.state.publish(rtb_auctions.TABLE, rtb_auctions.parse_auctions, received)


def make_user_sync(context: ProcessingContext, rows: Rows, _: Prefetch) -> pl.DataFrame:
    """Make silver/user_sync of attempts."""
    return context.state.publish(user_sync.TABLE, user_sync.typed, rows[bronze_user_sync.SCHEMA.table])


HOPS: Mapping[str, Hop] = {
    pages.TABLE: make_pages,
    images.TABLE: make_images,
    messages.TABLE: make_messages,
    embeddings.TABLE: make_embeddings,
    decisions.TABLE: make_decisions,
    page_signals.TABLE: make_page_signals,
    message_signals.TABLE: make_message_signals,
    signal_store.TABLE: publish_signals,
    ad_events.TABLE: make_ad_events,
    inventory.TABLE: make_inventory,
    rtb_auctions.TABLE: make_rtb_auctions,
    user_sync.TABLE: make_user_sync,
}
PREFETCH = {page_fetches.SCHEMA.table: prefetch_pages, social_messages.SCHEMA.table: prefetch_messages}


def in_order() -> list[str]:
    """Return the streamed tables in the order of the asset graph: each after those that it depends on."""
    assets = [asset for layer in (silver, published) for asset in dg.load_assets_from_package_module(layer)]
    specs = [spec for asset in assets if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs]
    graph = {
        spec.key.to_user_string(): sorted(dependency.asset_key.to_user_string() for dependency in spec.deps)
        for spec in specs
    }
    return [table for table in TopologicalSorter(graph).static_order() if table in HOPS]


def topic_pipelines() -> tuple[TopicPipeline, ...]:
    """Return the pipeline of every topic, in the order of the graph too: events follow the pages that they name."""
    order, made = in_order(), []
    for bronze in (schema for schema in SCHEMAS if schema.topic):
        tables = tuple(table for table in order if bronze.table in catalog.table(table).streamed_from)
        made.append(TopicPipeline(bronze, tables, PREFETCH.get(bronze.table)))
    return tuple(sorted(made, key=lambda pipeline: [order.index(table) for table in pipeline.tables[:1]]))


PIPELINES = topic_pipelines()
