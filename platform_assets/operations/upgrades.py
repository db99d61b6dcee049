"""Whether the running transformation gives the same as an earlier one, under which models were trained.

The earlier one's side is what is stored: its outputs for the probes, and the texts, vectors and decisions of the
user's own documents. So its libraries need not be installed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from governance.gates import carry_over as gate
from governance.gates.carry_over import Part, policy
from governance.gates.promotion import Verdict
from governance.transform_comparisons import Comparisons
from platform_assets.bronze import page_fetches, social_messages
from platform_assets.parsing import declared
from platform_assets.silver import embeddings
from platform_assets.silver.decisions import BATCH, DOCUMENTS, documents_of
from platform_assets.silver.decisions import TABLE as DECISIONS
from platform_assets.silver.pages import extracted, fetches_of
from resources import transform_probes
from resources.encoder import Encoder
from resources.lakehouse.days import DAY, days_of
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from resources.transform_probes import Outputs
from resources.workers import pages as page_workers
from signals.classify import ASKED_ABOUT, DECISION, DOCUMENT, Models, classify
from signals.documents.characters import covering
from signals.documents.text import document_texts, normal_forms
from signals.models.encoder import MAX_TOKENS
from signals.tasks import TASKS
from signals.traffic import Traffic

PLACE = ("source", "position", DAY)


@dataclass(frozen=True)
class Upgrade:
    """A verdict on an earlier transformation and the running one.

    Attributes:
        verdict: whether models carry over.
        encoder_id: of the earlier one's vectors; empty if that is not known.
        same_vectors: whether all that were compared are the same to the bit.
    """

    verdict: Verdict
    encoder_id: str = ""
    same_vectors: bool = False


def trained_under(registry: Registry, encoder: Encoder) -> dict[str, list[ModelVersion]]:
    """Return the champions by the transformation under which they were trained, where it is not the running one."""
    found: dict[str, list[ModelVersion]] = {}
    heads = registry.for_encoder(encoder.digest)
    for task, traffic in sorted(heads.traffic().items()):
        champion = heads.version(task, traffic.champion)
        if task in TASKS and champion.transform_id != encoder.transform_id:
            found.setdefault(champion.transform_id, []).append(champion)
    return found


def compared(
    lakehouse: Lakehouse, registry: Registry, encoder: Encoder, before: str, champions: list[ModelVersion]
) -> Upgrade:
    """Compare an earlier transformation with the running one, by what is stored of it.

    Args:
        lakehouse: with the documents, and with what is stored of them.
        registry: with the models.
        encoder: the running one.
        before: the earlier transformation's id.
        champions: models that were trained under it.
    """
    kept = transform_probes.stored(lakehouse, before)
    if kept is None:
        why = f"nothing was kept of transform_id {before}: it has never decided here"
        return Upgrade(Verdict(passed=False, why=why))
    sample = sampled(lakehouse, encoder, kept.encoder_id)
    vectors = _vectors(sample, encoder)
    parts = [*_probes(kept, encoder), _texts(lakehouse, sample), vectors]
    parts += [_answers(lakehouse, registry, encoder, champion, sample) for champion in champions]
    return Upgrade(gate.carry_over(parts), kept.encoder_id, vectors.identical == vectors.compared)


def carry_vectors(lakehouse: Lakehouse, before: str, now: str) -> int:
    """Store the vectors of an encoder_id under another one too; return their number."""
    stored = 0
    for day in lakehouse.days(embeddings.TABLE):
        rows = lakehouse.scan(embeddings.TABLE, [day]).filter(pl.col("encoder_id") == before).collect()
        for chunk in rows.with_columns(encoder_id=pl.lit(now)).iter_slices(embeddings.CHUNK):
            stored += lakehouse.insert_missing(embeddings.TABLE, chunk, embeddings.KEY)
    return stored


def sampled(lakehouse: Lakehouse, encoder: Encoder, before: str) -> pl.DataFrame:
    """Return content_hash, title, text and earlier vector of stored texts, which hold every character of them all."""
    days = sorted({day for table in embeddings.INPUTS for day in lakehouse.days(table)})
    texts = embeddings.distinct_texts(lakehouse, days, partial(embeddings.training_hashes, lakehouse, encoder))
    stored = lakehouse.scan(embeddings.TABLE).filter(pl.col("encoder_id") == before)
    stored = stored.select("content_hash", "vector").unique("content_hash")
    # By hash, so that a sample is of all days and kinds.
    rows = texts.lazy().join(stored, on="content_hash").sort("content_hash").collect()
    read = document_texts(rows["title"], rows["text"])
    return rows[covering(read, policy().documents, MAX_TOKENS - 2)]


def _probes(kept: Outputs, encoder: Encoder) -> Iterator[Part]:
    now = transform_probes.outputs(encoder)
    names = [f"probe {number}" for number in range(1, len(now.texts) + 1)]
    yield gate.texts(names, kept.texts, now.texts)
    yield replace(gate.vectors(names, kept.array, now.array), name="probes")


def _texts(lakehouse: Lakehouse, sample: pl.DataFrame) -> Part:
    """Compare texts as they are stored with those that what was received gives now."""
    names: list[str] = []
    before: list[str] = []
    now: list[str | None] = []
    for table, schema, read in (
        ("silver/pages", page_fetches.SCHEMA, _page_hashes),
        ("silver/messages", social_messages.SCHEMA, _message_hashes),
    ):
        if not lakehouse.exists(table):
            continue
        stored = lakehouse.scan(table).join(sample.lazy(), on="content_hash", how="semi")
        stored = stored.unique("content_hash").select("document_id", "content_hash", *PLACE).collect()
        received = lakehouse.scan(schema.table).join(stored.lazy().select(PLACE), on=PLACE, how="semi").collect()
        received = declared(received, schema)
        found = received.select(PLACE).with_columns(now=pl.Series(read(received), dtype=pl.String))
        both = stored.join(found.unique(PLACE), on=PLACE)  # what was received may have expired
        names += both["document_id"].to_list()
        before += both["content_hash"].to_list()
        now += both["now"].to_list()
    return gate.texts(names, before, now)


def _page_hashes(received: pl.DataFrame) -> list[str | None]:
    return extracted(received, page_workers.extract(fetches_of(received)))["content_hash"].to_list()


def _message_hashes(received: pl.DataFrame) -> list[str]:
    return normal_forms(received["text"])[1]


def _vectors(sample: pl.DataFrame, encoder: Encoder) -> Part:
    if sample.is_empty():
        return Part("vectors", 0, (), 0)
    names = [repr(text[:80]) for text in document_texts(sample["title"], sample["text"])]
    return gate.vectors(names, np.array(sample["vector"].to_list(), np.float32), embeddings.encode(sample, encoder))


def _answers(
    lakehouse: Lakehouse, registry: Registry, encoder: Encoder, champion: ModelVersion, sample: pl.DataFrame
) -> Part:
    """Compare a champion's decisions on record about sampled texts, and others, with those that it makes now."""
    by_it = (pl.col("model_name") == champion.name) & (pl.col("model_version") == champion.version)
    decided = lakehouse.scan(DECISIONS).filter(by_it, pl.col("kind") != "image")
    # Of the sample most may be labelled texts, about which nothing was decided.
    hashes = decided.select("content_hash").unique().sort("content_hash").head(policy().documents)
    hashes = pl.concat([hashes, sample.lazy().select("content_hash")])
    recorded = decided.join(hashes, on="content_hash", how="semi").sort("decision_id")
    recorded = recorded.unique("content_hash", keep="first", maintain_order=True).collect()
    model = registry.load(champion, champion.transform_id, Comparisons())
    models = Models({champion.task: Traffic(champion.version)}, {champion.task: model})
    again: dict[str, dict[str, Any]] = {}
    for (kind,), rows in recorded.group_by("kind"):
        stored = lakehouse.scan(DOCUMENTS[str(kind)], days_of(rows))
        documents = documents_of(str(kind), stored.join(rows.lazy(), on=ASKED_ABOUT, how="semi").collect())
        table = documents.select(DOCUMENT.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(DOCUMENT)
        made = pa.Table.from_batches(classify(table.to_batches(BATCH), models, encoder), DECISION)
        again |= {row["decision_id"]: row for row in made.to_pylist()}
    # A document may have been superseded or erased since.
    return gate.answers(
        champion.task, ((row, again[row["decision_id"]]) for row in recorded.to_dicts() if row["decision_id"] in again)
    )
