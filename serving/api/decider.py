"""Decides documents by the models that serve, as batch does, and keeps every decision before it is answered."""

import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import structlog

from resources import transform_bundles
from resources.decision_spool import DecisionSpool
from resources.encoder import Encoder
from resources.instruction_set import instruction_set
from resources.lakehouse.tables import lakehouse
from resources.serving_models import ServingModels, serving_models
from resources.settings import Settings
from signals.classify import ASKED_ABOUT, DECISION, DOCUMENT, Models, classify

# Seconds between two looks at which models serve.
REFRESH_SECONDS = 5.0
SERVED_BY = "api"
log = structlog.get_logger("seamless.api")


@dataclass(frozen=True)
class Group:
    """What documents that are decided together have in common: their kind, and the tasks asked; None for all."""

    kind: str
    tasks: frozenset[str] | None


Document = Mapping[str, Any]
Decision = dict[str, Any]


class Decider:
    """The models of one server process, and where their decisions are kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._spool = settings, DecisionSpool(settings.decision_spool)
        self._run_id, self._stopped = f"{SERVED_BY}-{uuid.uuid4()}", threading.Event()
        self.serving: ServingModels | None = None
        self._refreshing = threading.Thread(target=self._keep_current, name="models", daemon=True)

    def start(self) -> None:
        """Begin to load the models, and to look for others."""
        self._refreshing.start()

    def close(self) -> None:
        """Stop; nothing is decided afterwards."""
        self._stopped.set()
        self._spool.close()

    def decide(self, group: Group, documents: Sequence[Document]) -> list[list[Decision] | None]:
        """Return the decisions about each document, those of a shadow left out; None where a model fails on it.

        All of them, shadows too, are kept by then.

        Args:
            group: what all documents have in common.
            documents: fields of ``signals.classify.DOCUMENT``.
        """
        serving = self.serving
        assert serving is not None  # noqa: S101 - nothing is asked before the models are loaded
        models = restricted(serving.models, group.tasks)
        batch = pa.RecordBatch.from_pylist([dict(one) for one in documents], schema=DOCUMENT)
        decided = _decided(batch, models, serving.encoder)
        now = datetime.now(UTC)
        of_run = {"input_table": SERVED_BY, "input_version": 0, "run_id": self._run_id, "served_by": SERVED_BY}
        made = [one | of_run | {"decided_at": now} for of_document in decided for one in of_document or ()]
        if made:
            self._spool.append(map(_kept, made))
        told: dict[tuple[Any, ...], list[Decision]] = {}
        for one in made:
            if one["traffic_arm"] != "shadow":
                told.setdefault(_asked_about(one), []).append(one)
        return [
            None if of_document is None else told.get(_asked_about(document), [])
            for document, of_document in zip(documents, decided, strict=True)
        ]

    def _keep_current(self) -> None:
        while not self._stopped.is_set():
            try:
                before = self.serving
                current = serving_models(self._settings) if before is None else before.refreshed()
                if current is not before:
                    # Loaded, the encoder too, before any document is decided by them.
                    versions = {task: model.version for task, model in current.models.champions.items()}
                    current.encoder.encode(["ready"])
                    transform_bundles.keep(lakehouse(self._settings), current.encoder)
                    self.serving = current
                    log.info("models", versions=versions, transform_id=current.encoder.transform_id)
            except Exception as error:  # noqa: BLE001 - those that serve go on serving
                log.warning("models", error=type(error).__name__)
            self._stopped.wait(REFRESH_SECONDS)


def _decided(batch: pa.RecordBatch, models: Models, encoder: Encoder) -> list[list[Decision] | None]:
    """Return the decisions about each document; of equal ones the first has them all."""
    try:
        found = pa.Table.from_batches(classify([batch], models, encoder), DECISION).to_pylist()
    except Exception as error:  # noqa: BLE001 - one document never stops the others
        if batch.num_rows > 1:
            middle = batch.num_rows // 2
            return _decided(batch[:middle], models, encoder) + _decided(batch[middle:], models, encoder)
        log.warning("undecided", error=type(error).__name__)
        return [None]
    by_document: dict[tuple[Any, ...], dict[str, Decision]] = {}
    for one in found:
        by_document.setdefault(_asked_about(one), {})[one["decision_id"]] = one
    asked = (_asked_about(row) for row in batch.select(ASKED_ABOUT).to_pylist())
    return [list(by_document.pop(key, {}).values()) for key in asked]


def restricted(models: Models, tasks: Iterable[str] | None) -> Models:
    """Return models of some tasks only; all of them where none are named."""
    if tasks is None:
        return models
    champions, challengers = (
        {task: model for task, model in of.items() if task in tasks} for of in (models.champions, models.challengers)
    )
    return Models(models.traffic, champions, challengers)


def document_of(read: Any, kind: str, tenant: str, name: str, today: date) -> dict[str, Any]:
    """Return a document that was read as a row of ``signals.classify.DOCUMENT``."""
    return {
        "document_id": name,
        "kind": kind,
        "tenant_id": tenant,
        "content_hash": read.content_hash,
        "title": read.title,
        "text": read.text,
        "language": read.language,
        "event_date": today,
    }


def _asked_about(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ASKED_ABOUT)


def _kept(decision: Decision) -> dict[str, Any]:
    """Return a decision as a record of bronze/api_decisions."""
    named = {name: decision[name] for name in ("decision_id", "tenant_id")}
    return named | {"asked_on": decision["event_date"], "instruction_set": instruction_set(), "decision": decision}
