"""A micro-batch through the tables: from bronze rows to silver rows, decisions and signals, as batch makes them.

Each flow reads one topic into one bronze table. Its last table keeps up to where the topic has been taken through and
its signals published: what lies between that and bronze's own position is what a kill has left undone.

What takes long, reading pages and encoding, is done ahead, while the micro-batch before is still on its way. It is
known by what it was made from, so a micro-batch gives the same rows with it and without.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import polars as pl

from platform_assets.bronze import ad_events as bronze_ad_events
from platform_assets.bronze import inventory as bronze_inventory
from platform_assets.bronze import page_fetches, review_labels, social_messages
from platform_assets.bronze import rtb_auctions as bronze_rtb_auctions
from platform_assets.bronze import user_sync as bronze_user_sync
from platform_assets.known_vectors import KnownVectors, Vectors
from platform_assets.publishing import publish_increment
from platform_assets.records import Received
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
from platform_assets.silver.ad_events import on_pages
from resources.lakehouse import DAY, Lakehouse, days_of
from signals.pages import Article, Fetch, article
from signals.text import document_text, normal_forms

SERVED_BY = "stream"
# Pages that are read before they are encoded.
READ_AT_ONCE = 16


@dataclass(frozen=True)
class Ahead:
    """What has been worked out of bronze rows before they are taken through.

    Attributes:
        encoder_id: of the encoder that made the vectors; another may serve when they are needed.
        articles: of pages, by their fetch.
        vectors: of texts, by their hash.
    """

    encoder_id: str
    articles: dict[Fetch, Article] = field(default_factory=dict)
    vectors: Vectors = field(default_factory=dict)


@dataclass(frozen=True)
class Worker:
    """What a flow works with: the models that answer, the name of the run that it is part of, tables and vectors."""

    models: decisions.Serving
    run_id: str
    known: KnownVectors


@dataclass(frozen=True)
class Flow:
    """One topic's way through the tables.

    Attributes:
        topic: its name.
        bronze: what its bronze table expects.
        last: the table that keeps how far the topic has been taken through; bronze itself if batch does the rest.
        advance: takes bronze rows through; returns page signals to publish, if it has any.
        look_ahead: adds what can be worked out of bronze rows ahead.
    """

    topic: str
    bronze: Received
    last: str
    advance: Callable[[Worker, pl.DataFrame, Ahead], pl.DataFrame | None]
    look_ahead: Callable[[KnownVectors, pl.DataFrame, Ahead], None] | None = None

    def done(self, lakehouse: Lakehouse, positions: Mapping[str, int]) -> None:
        """Note up to where the topic has been taken through and published."""
        if self.last != self.bronze.table:
            lakehouse.mark(self.last, positions)

    def undone(self, lakehouse: Lakehouse, sources: Iterable[str]) -> tuple[pl.DataFrame, dict[str, int]]:
        """Return bronze rows of these sources that have not been taken through, and the positions after them."""
        reached = {source: lakehouse.position(self.bronze.table, source) or 0 for source in sources}
        done = {source: lakehouse.position(self.last, source) or 0 for source in reached}
        behind = {source: position for source, position in reached.items() if done[source] < position}
        if not behind:
            return pl.DataFrame(), behind
        unread = ((pl.col("source") == source) & (pl.col("position") > done[source]) for source in behind)
        return lakehouse.scan(self.bronze.table).filter(pl.any_horizontal(unread)).collect(), behind


def encode_messages(known: KnownVectors, received: pl.DataFrame, ahead: Ahead) -> None:
    """Add the vectors of messages."""
    texts, hashes = normal_forms(received["text"])
    ahead.vectors.update(known.encoded(zip(hashes, texts, strict=True)))


def advance_messages(worker: Worker, received: pl.DataFrame, ahead: Ahead) -> None:
    """Take messages through silver/messages, decisions and message_signals."""
    lakehouse = worker.known.lakehouse
    profiles = lakehouse.scan("bronze/user_profiles").filter(pl.col("user_id").is_in(received["author_id"].implode()))
    staged = messages.cleaned(received, profiles.collect())
    kept = publish_increment(lakehouse, messages.TABLE, staged, rows_in=received.height)
    answers = _answers(worker, "message", kept, ahead)
    told = message_signals.signals_of_messages(kept, answers)
    publish_increment(lakehouse, message_signals.TABLE, told, rows_in=kept.height)


def read_pages(known: KnownVectors, received: pl.DataFrame, ahead: Ahead) -> None:
    """Add the articles of pages and their vectors; one core reads while the other encodes what has been read."""
    fetches = pages.fetches_of(received)

    def encode(found: Iterable[Article]) -> None:
        texts = [(one["content_hash"], document_text(one["title"], one["text"])) for one in found if not one["failure"]]
        ahead.vectors.update(known.encoded(texts))

    with ThreadPoolExecutor(1) as other:
        waiting = []
        for start in range(0, len(fetches), READ_AT_ONCE):
            found = {fetch: article(fetch) for fetch in fetches[start : start + READ_AT_ONCE]}
            ahead.articles.update(found)
            waiting.append(other.submit(encode, found.values()))
        for one in waiting:
            one.result()


def advance_pages(worker: Worker, received: pl.DataFrame, ahead: Ahead) -> pl.DataFrame:
    """Take fetches through silver/pages, images, decisions and page_signals; return the signals."""
    lakehouse = worker.known.lakehouse
    fetches = received.filter(~pages.IS_IMAGE)
    found = pages.extracted(fetches, ahead.articles)
    failed = pl.col("failure").is_not_null()
    kept = publish_increment(
        lakehouse,
        pages.TABLE,
        found.filter(~failed).drop("failure"),
        broken=found.filter(failed).rename({"failure": "rule"}),
        rows_in=fetches.height,
    )
    pictures = images.unpacked(received.filter(pages.IS_IMAGE | pl.col("images").is_not_null()).drop("html"))
    failed = pl.col("rule").is_not_null()
    shown = publish_increment(
        lakehouse,
        images.TABLE,
        pictures.filter(~failed).drop("rule"),
        broken=pictures.filter(failed),
        rows_in=pictures.height,
    )
    answers = pl.concat([_answers(worker, "page", kept, ahead), _answers(worker, "image", shown, ahead)])
    told = page_signals.signals_of_pages(kept, shown, answers)
    return publish_increment(lakehouse, page_signals.TABLE, told, rows_in=kept.height)


def advance_inventory(worker: Worker, received: pl.DataFrame, _: Ahead) -> None:
    """Take snapshots to silver/inventory, with what is declared of their sellers as they come."""
    staged = inventory.offered(worker.known.lakehouse, received)
    publish_increment(worker.known.lakehouse, inventory.TABLE, staged, rows_in=received.height)


def _rows(topic: str, bronze: Received, table: str, stage: Callable[[pl.DataFrame], pl.DataFrame]) -> Flow:
    """Return the flow of a topic whose silver rows are its bronze rows, typed."""

    def advance(worker: Worker, received: pl.DataFrame, _: Ahead) -> None:
        staged = stage(received)
        if "rule" not in staged.columns:
            staged = staged.with_columns(rule=pl.lit(None, pl.String))
        failed = pl.col("rule").is_not_null()
        publish_increment(
            worker.known.lakehouse,
            table,
            staged.filter(~failed).drop("rule"),
            broken=staged.filter(failed),
            rows_in=received.height,
        )

    return Flow(topic, bronze, table, advance)


def _nothing(worker: Worker, received: pl.DataFrame, _: Ahead) -> None:
    """Leave the rest to batch."""


def _answers(worker: Worker, kind: str, rows: pl.DataFrame, ahead: Ahead) -> pl.DataFrame:
    """Ask the models about the documents of some rows, keep what they say, and return what consumers are to read."""
    vectors = pl.DataFrame(schema={"content_hash": pl.String, "vector": pl.List(pl.Float32)})
    if kind != "image":
        texts = rows.select("content_hash", DAY, text=decisions.text_of(kind))
        made = ahead.vectors if ahead.encoder_id == worker.known.encoder.encoder_id else {}
        vectors = worker.known.vectors(texts, made)
    table, lakehouse = decisions.DOCUMENTS[kind], worker.known.lakehouse
    answers = decisions.decided(
        decisions.documents_of(kind, rows.lazy(), vectors.lazy()),
        worker.models,
        input_table=table,
        input_version=lakehouse.version(table),
        run_id=worker.run_id,
        served_by=SERVED_BY,
    )
    if answers.height:
        days = days_of(answers)
        lakehouse.insert_missing(decisions.TABLE, answers, ["decision_id"], days=days)
    return answers.filter(pl.col("traffic_arm") != "shadow")


FLOWS = (
    Flow("pages", page_fetches.EXPECTED, page_signals.TABLE, advance_pages, read_pages),
    Flow("messages", social_messages.EXPECTED, message_signals.TABLE, advance_messages, encode_messages),
    _rows("ad-events", bronze_ad_events.EXPECTED, ad_events.TABLE, lambda rows: on_pages(rows, "event_time")),
    Flow("inventory", bronze_inventory.EXPECTED, inventory.TABLE, advance_inventory),
    _rows("rtb-auctions", bronze_rtb_auctions.EXPECTED, rtb_auctions.TABLE, rtb_auctions.opened),
    _rows("user-sync", bronze_user_sync.EXPECTED, user_sync.TABLE, user_sync.typed),
    Flow("labels", review_labels.EXPECTED, review_labels.EXPECTED.table, _nothing),
)
