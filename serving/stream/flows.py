"""A micro-batch through the tables: from bronze rows to silver rows, decisions and signals, as batch makes them.

Each flow reads one topic into one bronze table. Its last table keeps up to where the topic has been taken through and
its signals published: what lies between that and bronze's own position is what a kill has left undone.

What takes long, reading pages and encoding, is done ahead, while the micro-batch before is still on its way. It is
known by what it was made from, so a micro-batch gives the same rows with it and without.
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
    images,
    inventory,
    message_signals,
    messages,
    page_signals,
    pages,
    rtb_auctions,
    user_sync,
)
from resources.lakehouse.days import days_of
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from resources.serving_models import ServingModels
from serving.stream.embedding_cache import EmbeddingCache, Vectors
from signals.consumer_record import message_record, page_record
from signals.documents.pages import Article, Fetch, article
from signals.documents.text import document_text, normal_forms

SERVED_BY = "stream"
# Pages that are read before they are encoded.
READ_AT_ONCE = 16


@dataclass(frozen=True)
class Prefetch:
    """What has been worked out of bronze rows before they are taken through.

    Attributes:
        encoder_id: of the encoder that made the vectors; another may serve when they are needed.
        articles: of pages, by their fetch.
        vectors: of texts, by their hash.
    """

    encoder_id: str
    articles: dict[Fetch, Article] = field(default_factory=dict)
    vectors: Vectors = field(default_factory=dict)


class StreamState:
    """What the tables hold already, as far as a micro-batch must know it: keys, and addresses of pages."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse, self.aliases = lakehouse, Aliases(lakehouse)
        self._keys: dict[str, KeyIndex] = {}

    def published(self, table: str, stage: Stage, rows: pl.DataFrame, *, several: bool = False) -> pl.DataFrame:
        """Add what a stage makes of rows to a table. See ``publish_increment``."""
        if table not in self._keys:
            self._keys[table] = KeyIndex(self.lakehouse, table)
        return publish_increment(self.lakehouse, table, stage, rows, self._keys[table], several=several)


@dataclass(frozen=True)
class Worker:
    """What a flow works with.

    Attributes:
        serving: the encoder and the models that answer.
        run_id: name of the run that it is part of.
        known: tables and vectors.
        held: what the tables hold already.
    """

    serving: ServingModels
    run_id: str
    known: EmbeddingCache
    held: StreamState


@dataclass(frozen=True)
class Flow:
    """One topic's way through the tables.

    Attributes:
        bronze: what its bronze table expects.
        last: the table that keeps how far the topic has been taken through; bronze itself if batch does the rest.
        process: takes bronze rows through; returns page signals to publish, if it has any.
        look_ahead: adds what can be worked out of bronze rows ahead.
    """

    bronze: SourceSchema
    last: str
    process: Callable[[Worker, pl.DataFrame, Prefetch], pl.DataFrame | None]
    look_ahead: Callable[[EmbeddingCache, pl.DataFrame, Prefetch], None] | None = None

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self.bronze.topic or ""

    def done(self, lakehouse: Lakehouse, positions: Mapping[str, int]) -> None:
        """Note up to where the topic has been taken through and published."""
        if self.last != self.bronze.table:
            lakehouse.keep_checkpoints(self.last, positions)

    def backlog(self, lakehouse: Lakehouse, sources: Iterable[str]) -> tuple[pl.DataFrame, dict[str, int]]:
        """Return bronze rows of these sources that have not been taken through, and the positions after them."""
        reached = {source: lakehouse.checkpoint(self.bronze.table, source) or 0 for source in sources}
        done = {source: lakehouse.checkpoint(self.last, source) or 0 for source in reached}
        behind = {source: position for source, position in reached.items() if done[source] < position}
        if not behind:
            return pl.DataFrame(), behind
        unread = ((pl.col("source") == source) & (pl.col("position") > done[source]) for source in behind)
        rows = lakehouse.scan(self.bronze.table).filter(pl.any_horizontal(unread)).collect()
        return declared(rows, self.bronze), behind


def encode_messages(known: EmbeddingCache, received: pl.DataFrame, prefetch: Prefetch) -> None:
    """Add the vectors of messages."""
    texts, hashes = normal_forms(received["text"])
    prefetch.vectors.update(known.encoded(zip(hashes, texts, strict=True)))


def process_messages(worker: Worker, received: pl.DataFrame, prefetch: Prefetch) -> None:
    """Take messages through silver/messages, decisions and message_signals."""
    lakehouse = worker.known.lakehouse
    stage = partial(messages.cleaned, profiles=messages.profiles_of(lakehouse, received))
    kept = worker.held.published(messages.TABLE, stage, received)
    answers = _answers(worker, "message", kept, prefetch)
    worker.held.published(message_signals.TABLE, partial(message_record, answers=answers), kept)


def read_pages(known: EmbeddingCache, received: pl.DataFrame, prefetch: Prefetch) -> None:
    """Add the articles of pages and their vectors; one core reads while the other encodes what has been read."""
    fetches = pages.fetches_of(received)

    def encode(found: Iterable[Article]) -> None:
        texts = [(one["content_hash"], document_text(one["title"], one["text"])) for one in found if not one["failure"]]
        prefetch.vectors.update(known.encoded(texts))

    with ThreadPoolExecutor(1) as other:
        waiting = []
        for start in range(0, len(fetches), READ_AT_ONCE):
            found = {fetch: article(fetch) for fetch in fetches[start : start + READ_AT_ONCE]}
            prefetch.articles.update(found)
            waiting.append(other.submit(encode, found.values()))
        for one in waiting:
            one.result()


def process_pages(worker: Worker, received: pl.DataFrame, prefetch: Prefetch) -> pl.DataFrame:
    """Take fetches through silver/pages, images, decisions and page_signals; return the signals."""
    stage = partial(pages.extracted, known=prefetch.articles)
    kept = worker.held.published(pages.TABLE, stage, received.filter(~pages.IS_IMAGE))
    with_images = received.filter(pages.IS_IMAGE | pl.col("images").is_not_null()).drop("html")
    shown = worker.held.published(images.TABLE, images.unpacked, with_images, several=True)
    answers = pl.concat([_answers(worker, "page", kept, prefetch), _answers(worker, "image", shown, prefetch)])
    stage = partial(page_record, images=shown, answers=answers)
    return worker.held.published(page_signals.TABLE, stage, kept)


def process_inventory(worker: Worker, received: pl.DataFrame, _: Prefetch) -> None:
    """Take snapshots to silver/inventory, with what is declared of their sellers as they come."""
    stage = partial(inventory.with_sellers, lakehouse=worker.known.lakehouse, aliases=worker.held.aliases)
    worker.held.published(inventory.TABLE, stage, received)


def process_ad_events(worker: Worker, received: pl.DataFrame, _: Prefetch) -> None:
    """Take events to silver/ad_events, with the documents that they happened on."""
    stage = partial(ad_events.with_documents, time_column="event_time", aliases=worker.held.aliases)
    worker.held.published(ad_events.TABLE, stage, received)


def _rows(bronze: SourceSchema, table: str, stage: Stage) -> Flow:
    """Return the flow of a topic whose silver rows are its bronze rows, typed."""

    def process(worker: Worker, received: pl.DataFrame, _: Prefetch) -> None:
        worker.held.published(table, stage, received)

    return Flow(bronze, table, process)


def _nothing(worker: Worker, received: pl.DataFrame, _: Prefetch) -> None:
    """Leave the rest to batch."""


def _answers(worker: Worker, kind: str, rows: pl.DataFrame, prefetch: Prefetch) -> pl.DataFrame:
    """Ask the models about the documents of some rows, keep what they say, and return what consumers are to read."""
    vectors = decisions.NO_VECTORS
    if kind != "image":
        made = prefetch.vectors if prefetch.encoder_id == worker.known.encoder.encoder_id else {}
        vectors = worker.known.vectors(rows, made)
    table, lakehouse = decisions.DOCUMENTS[kind], worker.known.lakehouse
    answers, broken = decisions.decided(
        decisions.documents_of(kind, rows, vectors),
        worker.serving.models,
        worker.serving.encoder,
        input_table=table,
        input_version=lakehouse.version(table),
        run_id=worker.run_id,
        served_by=SERVED_BY,
    )
    quarantine(lakehouse, decisions.TABLE, broken)
    if answers.height:
        lakehouse.insert_missing(decisions.TABLE, answers, ["decision_id"], days=days_of(answers))
    return answers.filter(pl.col("traffic_arm") != "shadow")


FLOWS = (
    Flow(page_fetches.SCHEMA, page_signals.TABLE, process_pages, read_pages),
    Flow(social_messages.SCHEMA, message_signals.TABLE, process_messages, encode_messages),
    Flow(bronze_ad_events.SCHEMA, ad_events.TABLE, process_ad_events),
    Flow(bronze_inventory.SCHEMA, inventory.TABLE, process_inventory),
    _rows(bronze_rtb_auctions.SCHEMA, rtb_auctions.TABLE, rtb_auctions.parse_auctions),
    _rows(bronze_user_sync.SCHEMA, user_sync.TABLE, user_sync.typed),
    Flow(review_labels.SCHEMA, review_labels.SCHEMA.table, _nothing),
)
