"""`seamless audit replay`: decisions made again from the record, and compared with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import polars as pl
import pyarrow as pa

from governance.promotion_log import ENCODER, PACKAGED
from governance.replay import differences
from platform_assets.silver.decisions import BATCH, DOCUMENTS, TABLE, documents_of
from platform_assets.silver.embeddings import encode
from resources import transform_bundles
from resources.audit_trail import decision, visible
from resources.encoder import Encoder
from resources.instruction_set import instruction_set
from resources.lakehouse.days import days_of
from resources.lakehouse.reading import TableMissingError
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.classify import ASKED_ABOUT, DECISION, DOCUMENT, Model, Models, classify
from signals.traffic import Traffic

# What was made again is compared; or something that it takes lacks.
Compared = Literal["same", "different"]
Lacking = Literal["input", "model", "transform", "instruction set"]
COMPARED: tuple[Compared, ...] = get_args(Compared)
# Decisions whose documents are held at a time.
PART = 8_192
MODEL = ("model_name", "model_version", "model_digest")


@dataclass(frozen=True)
class Replay:
    """What became of a decision that was made again.

    Attributes:
        decision_id: the decision.
        outcome: how it compares; else what lacks.
        why: what differs, or why it cannot be replayed.
    """

    decision_id: str
    outcome: Compared | Lacking
    why: str = ""


class _LacksError(Exception):
    """What a replay lacks, and why."""

    def __init__(self, outcome: Lacking, why: str) -> None:
        super().__init__(why)
        self.outcome: Lacking = outcome


def replays(lakehouse: Lakehouse, registry: Registry, encoder: Encoder, decisions: pl.DataFrame) -> Iterator[Replay]:
    """Make decisions again, and yield what became of each.

    Args:
        lakehouse: holds the documents.
        registry: holds the models.
        encoder: the one that serves; of an earlier one the weights are taken from the registry.
        decisions: rows of silver/decisions.
    """
    for (kind, transform_id), part in decisions.group_by("kind", "transform_id", maintain_order=True):
        documents = _documents(lakehouse, str(kind), part)
        for (name, version, digest), rows in part.group_by(MODEL, maintain_order=True):
            try:
                model, running = _loaded(registry, encoder, str(name), int(version), str(digest), str(transform_id))
            except _LacksError as lacks:
                why = f"{lacks}{_bundle(lakehouse, str(transform_id)) if lacks.outcome == 'transform' else ''}"
                yield from (Replay(name, lacks.outcome, why) for name in rows["decision_id"])
                continue
            if kind != "image" and documents["vector"].null_count():
                documents = documents.with_columns(vector=pl.Series(encode(documents, running)).arr.to_list())
            asked = documents.join(rows, on=ASKED_ABOUT, how="semi", maintain_order="left")
            again = {one["decision_id"]: one for one in _answered(asked, model, running)}
            yield from (_compared(row, again.get(row["decision_id"])) for row in rows.to_dicts())


def decisions_of(
    lakehouse: Lakehouse, decision_id: str | None, day: str | None, count: int | None
) -> Iterator[pl.DataFrame]:
    """Yield decisions on record in parts: one, those of a day, or so many of the newest.

    Raises:
        UnknownDecisionError: there is no decision of that id.
    """
    if decision_id is not None:
        yield decision(lakehouse, decision_id, visible("engineer", None))
        return
    days = [day] if day else reversed(lakehouse.days(TABLE))
    for one in days:
        # A document's decisions stand together, so that its text is encoded once.
        rows = lakehouse.scan(TABLE, [one]).sort("document_id", "content_hash").collect()
        rows = rows if count is None else rows.head(count)
        yield from rows.iter_slices(PART)
        count = count and count - rows.height
        if count == 0:
            return


def _bundle(lakehouse: Lakehouse, transform_id: str) -> str:
    address = transform_bundles.kept(lakehouse, transform_id)
    return f"; {address} has its source, lock and weights' digests" if address else "; no bundle of it was kept"


def _documents(lakehouse: Lakehouse, kind: str, decisions: pl.DataFrame) -> pl.DataFrame:
    """Return the documents of decisions that silver still holds, in the shape of ``signals.classify.DOCUMENT``."""
    hashes = decisions["content_hash"].unique().implode()
    try:
        stored = lakehouse.scan(DOCUMENTS[kind], days_of(decisions)).filter(pl.col("content_hash").is_in(hashes))
    except TableMissingError:
        return pl.DataFrame(DOCUMENT.empty_table())
    return documents_of(kind, stored.join(decisions.lazy(), on=ASKED_ABOUT, how="semi").collect())


def _loaded(
    registry: Registry, encoder: Encoder, name: str, number: int, digest: str, transform_id: str
) -> tuple[Model, Encoder]:
    """Return the model that decided, and the encoder under which it did.

    Raises:
        _LacksError: the model is gone or is another, or another transformation is running.
    """
    environment, _, task = name.partition(".")
    try:
        models = registry.for_environment(environment)
        version = models.version(task, number)
        under = _encoder(models, encoder, version.encoder)
        running = under.transform_id
        if running != transform_id:
            raise _LacksError("transform", f"decided under transform_id {transform_id}, but {running} is running")
        if version.digest != digest:
            raise _LacksError("model", f"{version} has digest {version.digest}, but {digest} decided")
        return models.load(version, running, under.comparisons()), under
    except _LacksError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the registry raises, it has not what decided
        raise _LacksError("model", " ".join(str(error).split())) from None


def _encoder(registry: Registry, serving: Encoder, digest: str) -> Encoder:
    """Return the encoder of a digest.

    Raises:
        LookupError: it is not registered.
    """
    if digest == serving.digest:
        return serving
    versions = {version.digest: version.version for version in registry.versions(ENCODER)} | {"": PACKAGED}
    if digest not in versions:
        raise LookupError(f"no encoder of digest {digest} is registered")
    return replace(serving, registry=registry, version=versions[digest])


def _answered(documents: pl.DataFrame, model: Model, encoder: Encoder) -> list[dict[str, Any]]:
    task = model.task.name
    models = Models({task: Traffic(model.version)}, {task: model})
    table = documents.select(DOCUMENT.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(DOCUMENT)
    answers = classify(table.to_batches(BATCH), models, encoder)
    return pl.DataFrame(pa.Table.from_batches(answers, DECISION)).to_dicts()


def _compared(recorded: Mapping[str, Any], again: Mapping[str, Any] | None) -> Replay:
    name, decided_on = recorded["decision_id"], recorded.get("instruction_set")
    if again is None:
        gone = f"{DOCUMENTS[recorded['kind']]} no longer holds its document: erased, expired or replaced"
        never = "the API keeps no texts, and silver does not hold this one"
        return Replay(name, "input", never if recorded["served_by"] == "api" else gone)
    found = differences(recorded, again)
    if not found:
        return Replay(name, "same")
    if decided_on not in (None, instruction_set()):
        return Replay(name, "instruction set", f"decided on {decided_on}, but this is {instruction_set()}")
    return Replay(name, "different", "; ".join(found))
