"""`seamless erase`: all that is kept about a person leaves, and does not come back."""

import hmac
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import polars as pl
from pydantic import SecretStr

from governance import catalog
from governance.erasure import Subject, may_hold
from governance.promotion_log import ENCODER
from platform_assets import subjects
from platform_assets.bronze import api_decisions
from platform_assets.operations import erasures
from platform_assets.operations.erasures import Erasure
from platform_assets.operations.suppressions import suppress
from platform_assets.published.signal_store import INPUTS as PUBLISHED
from platform_assets.published.signal_store import forget
from platform_assets.silver import labels
from platform_assets.spool import land_spool
from platform_assets.subjects import documents_of, rows_of
from resources.lakehouse.disk import purge
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import lakehouse
from resources.registry.models import registry
from resources.registry.versions import ModelVersion
from resources.settings import Settings
from resources.signal_store.stores import signal_store
from serving.cli.run import run
from signals.tasks import TASKS

# In this order: each step can be repeated until the next has begun.
STEPS = ("suppress", "mark_models", "remove", "make_again", "purge")


class StillThereError(RuntimeError):
    """Rows of the subject came while they were erased."""


def erase(settings: Settings, subject: Subject) -> dict[str, Any]:
    """Erase a subject, or finish the erasure that was begun, and return the signed report.

    Raises:
        StillThereError: another writer had read rows of the subject before: run it again.
    """
    work = Work(settings, subject)
    for step in STEPS:
        if step not in work.erasure.steps:
            changes = getattr(work, step)()
            work.save(**changes, steps=(*work.erasure.steps, step))
    return signed(report_of(work.erasure, subject.tenant), settings.erasure_key)


class Work:
    """The steps of one erasure, each a method that returns what of the erasure it changes."""

    def __init__(self, settings: Settings, subject: Subject) -> None:
        self.settings, self.subject = settings, subject
        self.tables, self.models = lakehouse(settings), registry(settings)
        land_spool(self.tables, settings.decision_spool)
        self.erasure, self.rows = erasures.erasure_of(self.tables, subject), rows_of(self.tables, subject)
        if self.rows and "remove" in self.erasure.steps:  # they came since
            self.save(steps=(), finished_at=None)

    def save(self, **changes: Any) -> None:
        """Store the erasure with some changes."""
        self.erasure = erasures.save(self.tables, self.erasure, **changes)

    def suppress(self) -> dict[str, Any]:
        """Keep the subject from coming back, and note what there is to remove."""
        suppress(self.tables, self.subject, documents_of(self.rows))
        before = self.erasure
        counts = {table: max(part.height, before.counts.get(table, 0)) for table, part in self.rows.items()}
        return {
            "counts": before.counts | counts,
            "models": tuple(sorted({*before.models, *map(str, self._trained_on())})),
            "sources": tuple(sorted({*before.sources, *self._sources()})),
        }

    def mark_models(self) -> dict[str, Any]:
        """Have the models be trained again that were trained on the subject's rows."""
        for version in self._trained_on():
            self.models.mark_erased(version, self.erasure.started_at)
        return {}

    def remove(self) -> dict[str, Any]:
        """Remove the rows."""
        if {*PUBLISHED} & {*self.rows}:
            with closing(signal_store(self.settings)) as store:
                forget(store, documents_of(self.rows))
        subjects.remove(self.tables, self.rows)
        return {}

    def make_again(self) -> dict[str, Any]:
        """Have the graph make again what was made from removed rows."""
        run(lambda *_: None)
        if left := rows_of(self.tables, self.subject):
            raise StillThereError(f"rows came to {', '.join(left)} while they were erased: run it again")
        return {}

    def purge(self) -> dict[str, Any]:
        """Purge the tables that had rows of the subject, or whose former versions may have had some."""
        land_spool(self.tables, self.settings.decision_spool)
        tables = snapshot(self.tables)
        for name, table in catalog.tables().items():
            if tables.exists(name) and (
                name in self.erasure.counts or may_hold(table, tables.scan(name).collect_schema())
            ):
                purge(self.tables, name)
        return {"finished_at": datetime.now(UTC)}

    def _trained_on(self) -> list[ModelVersion]:
        """Return the versions that were trained when labels among the rows were there."""
        if labels.TABLE not in self.rows:
            return []
        since = dict(self.rows[labels.TABLE].group_by("task").agg(pl.col("received_at").min()).iter_rows())
        taught_by = {task.name: (task.name, *task.auxiliary) for task in TASKS.values()} | {ENCODER: tuple(since)}
        return [
            version
            for task, versions in self.models.versions_by_task(every_encoder=True).items()
            for version in versions
            if any(since[name] <= version.trained_at for name in taught_by.get(task, ()) if name in since)
        ]

    def _sources(self) -> Iterator[str]:
        """Yield the sources of the rows that came from outside."""
        for table in catalog.names("bronze"):
            # The API's spool is ours, and emptied.
            if table in self.rows and table != api_decisions.SCHEMA.table:
                yield from self.rows[table]["source"].drop_nulls().unique()


def report_of(erasure: Erasure, tenant: str | None) -> dict[str, Any]:
    """Return the report of a finished erasure, which does not say whom it was about."""
    return {
        "erasure_id": erasure.erasure_id,
        "tenant": tenant,
        "started_at": str(erasure.started_at),
        "finished_at": str(erasure.finished_at),
        "rows_removed": dict(sorted(erasure.counts.items())),
        "models_to_retrain": list(erasure.models),
        "sources_that_may_still_hold_them": list(erasure.sources),
    }


def signed(report: dict[str, Any], key: SecretStr | None) -> dict[str, Any]:
    """Return a report with its signature, the HMAC-SHA256 of its JSON with sorted keys; or why it has none."""
    if key is None:
        return report | {"signature": None, "unsigned": "no key is set: ERASURE_KEY"}
    content = json.dumps(report, sort_keys=True, separators=(",", ":")).encode()
    return report | {"signature": hmac.digest(key.get_secret_value().encode(), content, "sha256").hex()}
