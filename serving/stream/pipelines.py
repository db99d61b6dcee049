"""One pipeline a topic: from bronze rows to silver rows, decisions and signals, with the functions that batch uses.

A pipeline's bronze table stores the position up to which its topic was read. Its last table stores the position up to
which rows were processed and published. The rows between the two, which a kill has left, are the backlog.

Slow work, reading pages and encoding, is prefetched while the previous micro-batch is processed. Prefetched results are
keyed by their input, so a micro-batch gives the same rows with and without them.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from platform_assets.aliases import Aliases
from platform_assets.bronze import ad_events as bronze_ad_events
from platform_assets.bronze import inventory as bronze_inventory
from platform_assets.bronze import page_fetches, review_labels, social_messages
from platform_assets.bronze import rtb_auctions as bronze_rtb_auctions
from platform_assets.bronze import user_sync as bronze_user_sync
from platform_assets.parsing import SourceSchema, declared
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
    """

    serving: ServingModels
    run_id: str
    embeddings: EmbeddingCache
    state: StreamState


@dataclass(frozen=True)
class TopicPipeline:
    """The tables and functions that one topic's rows go through.

    Attributes:
        bronze: schema of its bronze table.
        last_table: table that keeps the processed position; bronze itself if batch does the rest.
        process: processes bronze rows; returns page signals to publish, if it has any.
        prefetch: adds to a ``Prefetch`` the results that bronze rows alone determine.
    """

    bronze: SourceSchema
    last_table: str
    process: Callable[[ProcessingContext, pl.DataFrame, Prefetch], pl.DataFrame | None]
    prefetch: Callable[[EmbeddingCache, pl.DataFrame, Prefetch], None] | None = None

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self.bronze.topic or ""

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


def process_messages(context: ProcessingContext, received: pl.DataFrame, prefetch: Prefetch) -> None:
    """Process messages into silver/messages, decisions and message_signals."""
    profiles = messages.profiles_of(context.embeddings.lakehouse, received)
    cleaned = context.state.publish(messages.TABLE, partial(messages.cleaned, profiles=profiles), received)
    answers = _decide(context, "message", cleaned, prefetch)
    context.state.publish(message_signals.TABLE, partial(message_record, answers=answers), cleaned)


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


def process_pages(context: ProcessingContext, received: pl.DataFrame, prefetch: Prefetch) -> pl.DataFrame:
    """Process fetches into silver/pages, images, decisions and page_signals; return the signals."""
    stage = partial(pages.extracted, known=prefetch.articles)
    extracted = context.state.publish(pages.TABLE, stage, received.filter(~pages.IS_IMAGE))
    with_images = received.filter(pages.IS_IMAGE | pl.col("images").is_not_null()).drop("html")
    unpacked = context.state.publish(images.TABLE, images.unpacked, with_images, several=True)
    answers = pl.concat([_decide(context, "page", extracted, prefetch), _decide(context, "image", unpacked, prefetch)])
    if with_images.height > 0:
        unpacked = images.with_unreadable(unpacked, extracted, context.state.lakehouse)
    return context.state.publish(page_signals.TABLE, partial(page_record, images=unpacked, answers=answers), extracted)


def process_inventory(context: ProcessingContext, received: pl.DataFrame, _: Prefetch) -> None:
    """Process snapshots into silver/inventory, joined with their sellers' declarations as of now."""
    stage = partial(inventory.with_sellers, lakehouse=context.embeddings.lakehouse, aliases=context.state.aliases)
    context.state.publish(inventory.TABLE, stage, received)


def process_ad_events(context: ProcessingContext, received: pl.DataFrame, _: Prefetch) -> None:
    """Process events into silver/ad_events, joined with their pages."""
    stage = partial(ad_events.with_documents, time_column="event_time", aliases=context.state.aliases)
    context.state.publish(ad_events.TABLE, stage, received)


def _typed_only(bronze: SourceSchema, table: str, stage: Stage) -> TopicPipeline:
    """Return the pipeline of a topic whose silver rows are its bronze rows, typed."""

    def process(context: ProcessingContext, received: pl.DataFrame, _: Prefetch) -> None:
        context.state.publish(table, stage, received)

    return TopicPipeline(bronze, table, process)


def _bronze_only(context: ProcessingContext, received: pl.DataFrame, _: Prefetch) -> None:
    """Leave later tables to batch."""


def _decide(context: ProcessingContext, kind: str, rows: pl.DataFrame, prefetch: Prefetch) -> pl.DataFrame:
    """Score the documents of some rows, store the decisions, and return those that consumers read."""
    embeddings, vectors = context.embeddings, decisions.NO_VECTORS
    if kind != "image":
        prefetched = prefetch.vectors if prefetch.encoder_id == embeddings.encoder.encoder_id else {}
        vectors = embeddings.vectors(rows, prefetched)
    table, lakehouse = decisions.DOCUMENTS[kind], embeddings.lakehouse
    answers, broken = decisions.decided(
        decisions.documents_of(kind, rows, vectors),
        context.serving.models,
        context.serving.encoder,
        input_table=table,
        input_version=lakehouse.version(table),
        run_id=context.run_id,
        served_by=SERVED_BY,
    )
    quarantine(lakehouse, decisions.TABLE, broken)
    if answers.height:
        transform_bundles.keep(lakehouse, context.serving.encoder)
        lakehouse.insert_missing(decisions.TABLE, answers, ["decision_id"], days=days_of(answers))
    return answers.filter(pl.col("traffic_arm") != "shadow")


PIPELINES = (
    TopicPipeline(page_fetches.SCHEMA, page_signals.TABLE, process_pages, prefetch_pages),
    TopicPipeline(social_messages.SCHEMA, message_signals.TABLE, process_messages, prefetch_messages),
    TopicPipeline(bronze_ad_events.SCHEMA, ad_events.TABLE, process_ad_events),
    TopicPipeline(bronze_inventory.SCHEMA, inventory.TABLE, process_inventory),
    _typed_only(bronze_rtb_auctions.SCHEMA, rtb_auctions.TABLE, rtb_auctions.parse_auctions),
    _typed_only(bronze_user_sync.SCHEMA, user_sync.TABLE, user_sync.typed),
    TopicPipeline(review_labels.SCHEMA, review_labels.SCHEMA.table, _bronze_only),
)
