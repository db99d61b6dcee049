"""A micro-batch through the tables: from bronze rows to silver rows, decisions and signals, as batch makes them.

Each flow reads one topic into one bronze table. Its last table keeps up to where the topic has been taken through and
its signals published: what lies between that and bronze's own position is what a kill has left undone.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from platform_assets.bronze import ad_events as bronze_ad_events
from platform_assets.bronze import inventory as bronze_inventory
from platform_assets.bronze import page_fetches, review_labels, social_messages
from platform_assets.bronze import rtb_auctions as bronze_rtb_auctions
from platform_assets.bronze import user_sync as bronze_user_sync
from platform_assets.publishing import publish_increment
from platform_assets.records import Received
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
from platform_assets.silver.ad_events import on_pages
from resources.encoder import Encoder
from resources.lakehouse import DAY, Lakehouse

SERVED_BY = "stream"
# Pages that are read before they are encoded.
READ_AT_ONCE = 16
# Hashes of texts that a worker remembers.
SEEN = 50_000

Vectors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Worker:
    """What a flow works with, and the name of the run that it is part of.

    Attributes:
        seen: hashes of texts that have come lately, the latest last.
    """

    lakehouse: Lakehouse
    encoder: Encoder
    models: decisions.Serving
    run_id: str
    seen: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class Flow:
    """One topic's way through the tables.

    Attributes:
        topic: its name.
        bronze: what its bronze table expects.
        last: the table that keeps how far the topic has been taken through; bronze itself if batch does the rest.
        advance: takes bronze rows through; returns page signals to publish, if it has any.
    """

    topic: str
    bronze: Received
    last: str
    advance: Callable[[Worker, pl.DataFrame], pl.DataFrame | None]

    def done(self, lakehouse: Lakehouse, positions: Mapping[str, int]) -> None:
        """Note up to where the topic has been taken through and published."""
        if self.last != self.bronze.table:
            lakehouse.mark(self.last, positions)

    def undone(self, lakehouse: Lakehouse, sources: Iterable[str]) -> tuple[pl.DataFrame, dict[str, int]]:
        """Return bronze rows of these sources that have not been taken through, and the positions after them."""
        reached = {source: lakehouse.position(self.bronze.table, source) or 0 for source in sources}
        done = {source: lakehouse.position(self.last, source) or 0 for source in reached}
        behind = {source: position for source, position in reached.items() if done[source] < position}
        unread = pl.any_horizontal(
            pl.lit(value=False),
            *((pl.col("source") == source) & (pl.col("position") > done[source]) for source in behind),
        )
        return lakehouse.scan(self.bronze.table).filter(unread).collect(), behind


def advance_messages(worker: Worker, received: pl.DataFrame) -> None:
    """Take messages through silver/messages, decisions and message_signals."""
    lakehouse = worker.lakehouse
    profiles = lakehouse.scan("bronze/user_profiles").filter(pl.col("user_id").is_in(received["author_id"].implode()))
    staged = messages.cleaned(received, profiles.collect())
    kept = publish_increment(lakehouse, messages.TABLE, staged, rows_in=received.height)
    answers = _answers(worker, "message", kept)
    told = message_signals.signals_of_messages(kept, answers)
    publish_increment(lakehouse, message_signals.TABLE, told, rows_in=kept.height)


def advance_pages(worker: Worker, received: pl.DataFrame) -> pl.DataFrame:
    """Take fetches through silver/pages, images, decisions and page_signals; return the signals."""
    lakehouse = worker.lakehouse
    fetches = received.filter(~pages.IS_IMAGE)
    found, ahead = _read(worker, fetches)
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
    answers = pl.concat([_answers(worker, "page", kept, ahead), _answers(worker, "image", shown)])
    told = page_signals.signals_of_pages(kept, shown, answers)
    return publish_increment(lakehouse, page_signals.TABLE, told, rows_in=kept.height)


def advance_inventory(worker: Worker, received: pl.DataFrame) -> None:
    """Take snapshots to silver/inventory, with what is declared of their sellers as they come."""
    staged = inventory.offered(worker.lakehouse, received)
    publish_increment(worker.lakehouse, inventory.TABLE, staged, rows_in=received.height)


def _rows(topic: str, bronze: Received, table: str, stage: Callable[[pl.DataFrame], pl.DataFrame]) -> Flow:
    """Return the flow of a topic whose silver rows are its bronze rows, typed."""

    def advance(worker: Worker, received: pl.DataFrame) -> None:
        staged = stage(received)
        if "rule" not in staged.columns:
            staged = staged.with_columns(rule=pl.lit(None, pl.String))
        failed = pl.col("rule").is_not_null()
        publish_increment(
            worker.lakehouse,
            table,
            staged.filter(~failed).drop("rule"),
            broken=staged.filter(failed),
            rows_in=received.height,
        )

    return Flow(topic, bronze, table, advance)


def _nothing(worker: Worker, received: pl.DataFrame) -> None:
    """Leave the rest to batch."""


def _read(worker: Worker, fetches: pl.DataFrame) -> tuple[pl.DataFrame, Vectors]:
    """Return the articles of pages, and vectors of those that have not come lately, by their hash.

    One core reads pages while the other encodes what has been read.
    """
    parts: list[pl.DataFrame] = []
    ahead: Vectors = {}

    def encode(articles: pl.DataFrame) -> None:
        texts = articles.filter(pl.col("failure").is_null()).select("content_hash", text=decisions.text_of("page"))
        fresh = [row for row in texts.unique("content_hash").rows() if row[0] not in worker.seen]
        if fresh:
            ahead.update(zip([row[0] for row in fresh], worker.encoder.encode([row[1] for row in fresh]), strict=True))

    with ThreadPoolExecutor(1) as other:
        waiting = []
        for some in fetches.sort("received_at", "source", "position").iter_slices(READ_AT_ONCE):
            parts.append(pages.extracted(some))
            waiting.append(other.submit(encode, parts[-1]))
        for one in waiting:
            one.result()
    return (pl.concat(parts) if parts else pages.extracted(fetches)), ahead


def _answers(worker: Worker, kind: str, rows: pl.DataFrame, ahead: Vectors | None = None) -> pl.DataFrame:
    """Ask the models about the documents of some rows, keep what they say, and return what consumers are to read."""
    vectors = pl.DataFrame(schema={"content_hash": pl.String, "vector": pl.List(pl.Float32)})
    if kind != "image":
        vectors = _vectors(worker, rows.select("content_hash", DAY, text=decisions.text_of(kind)), ahead or {})
    table, lakehouse = decisions.DOCUMENTS[kind], worker.lakehouse
    answers = decisions.decided(
        decisions.documents_of(kind, rows.lazy(), vectors.lazy()),
        worker.models,
        input_table=table,
        input_version=lakehouse.version(table),
        run_id=worker.run_id,
        served_by=SERVED_BY,
    )
    if answers.height:
        days = sorted({str(day) for day in answers[DAY]})
        lakehouse.insert_missing(decisions.TABLE, answers, ["decision_id"], days=days)
    return answers.filter(pl.col("traffic_arm") != "shadow")


def _vectors(worker: Worker, texts: pl.DataFrame, ahead: Vectors) -> pl.DataFrame:
    """Return content_hash and vector of each distinct text, encoding those that have never been."""
    lakehouse, encoder = worker.lakehouse, worker.encoder
    texts = texts.unique("content_hash", keep="first", maintain_order=True)
    encoded = lakehouse.scan(embeddings.TABLE).filter(pl.col("encoder_id") == encoder.encoder_id)
    wanted = encoded.filter(pl.col("content_hash").is_in(texts["content_hash"].implode()))
    known = wanted.select("content_hash", "vector").collect().unique("content_hash")
    missing = texts.join(known, on="content_hash", how="anti", maintain_order="left")
    for text in texts["content_hash"]:
        worker.seen[text] = worker.seen.pop(text, None)
    for text in list(worker.seen)[:-SEEN]:
        del worker.seen[text]
    if missing.is_empty():
        return known
    waiting = missing.filter(~pl.col("content_hash").is_in(list(ahead)))
    ahead = ahead | dict(zip(waiting["content_hash"], encoder.encode(waiting["text"].to_list()), strict=True))
    fresh = embeddings.rows_of(missing, np.stack([ahead[text] for text in missing["content_hash"]]), encoder.encoder_id)
    days = sorted({str(day) for day in fresh[DAY]})
    lakehouse.insert_missing(embeddings.TABLE, fresh, embeddings.KEY, days=days)
    return pl.concat([known, fresh.select("content_hash", "vector")])


FLOWS = (
    Flow("pages", page_fetches.EXPECTED, page_signals.TABLE, advance_pages),
    Flow("messages", social_messages.EXPECTED, message_signals.TABLE, advance_messages),
    _rows("ad-events", bronze_ad_events.EXPECTED, ad_events.TABLE, lambda rows: on_pages(rows, "event_time")),
    Flow("inventory", bronze_inventory.EXPECTED, inventory.TABLE, advance_inventory),
    _rows("rtb-auctions", bronze_rtb_auctions.EXPECTED, rtb_auctions.TABLE, rtb_auctions.opened),
    _rows("user-sync", bronze_user_sync.EXPECTED, user_sync.TABLE, user_sync.typed),
    Flow("labels", review_labels.EXPECTED, review_labels.EXPECTED.table, _nothing),
)
