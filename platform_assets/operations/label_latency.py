"""One row is one champion of a task: how long labels waited until a model that has seen them made a decision.

Labels that no champion has seen are a row without a version. A version has seen the labels of ``silver/labels`` at the
Delta version that its training pinned. A label waits from ``received_at``, the time of ingestion, to ``decided_at``:
the first decision, other than in shadow, by that version or a later one. Without one it waits to ``measured_at``.
``seconds_last`` is the wait of the label that landed last: the platform's own time, without the wait for enough labels.
The row of a task's first champion has no ``before_version`` and counts in no total, because its labels came before it.

The cost of the gap comes from the ``compared`` documents, which this champion and the one before both decided: how many
answers ``changed``, and the impressions and spend on those pages from the first label's landing to ``decided_at``. A
champion's row is final a day later; until then late events count. Only labels of days that changed between two
trainings are read, and decisions of days written since.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from governance import catalog
from platform_assets.conventions import table_key, table_spec
from platform_assets.silver.decisions import MODELS
from platform_assets.silver.decisions import TABLE as DECISIONS
from resources.lakehouse.changes import days_written, rows_between
from resources.lakehouse.days import DAY, days_of
from resources.lakehouse.reading import VersionGoneError
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.registry.versions import promotion_log
from signals.classify import DOCUMENT_KEY
from signals.tasks import TASKS

TABLE = "operations/label_latency"
LABELS, EVENTS = "silver/labels", "silver/ad_events"
PINNED = f"version:{LABELS}"
TIME = pl.Datetime("us", "UTC")
WAITS = ("seconds_p50", "seconds_p95", "seconds_max", "seconds_last")
COST = {"compared": 0, "changed": 0, "impressions": 0, "spend_usd": 0.0}
SCHEMA = {
    "model_name": pl.String,
    "task": pl.String,
    "model_version": pl.Int64,
    "before_version": pl.Int64,
    "labels": pl.Int64,
    "landed_first": TIME,
    "landed_last": TIME,
    "decided_at": TIME,
    **dict.fromkeys(WAITS, pl.Float64),
    "compared": pl.Int64,
    "changed": pl.Int64,
    "impressions": pl.Int64,
    "spend_usd": pl.Float64,
    "measured_at": TIME,
}
FINAL_AFTER = timedelta(days=1)
CHECK, MAX_SECONDS = "learns_in_time", 120
CHECK_DOC = f"The label that landed last before each task's newest champion waited {MAX_SECONDS} s at most."
# Name and version of a model.
Key = tuple[str, int]


@dataclass(frozen=True)
class Generation:
    """A version that has been champion.

    Attributes:
        version: its number.
        before: the former champion; None for the first.
        labels: version of silver/labels that it was trained on.
        trained_at: when it was registered (UTC).
    """

    version: int
    before: int | None
    labels: int
    trained_at: datetime


@dg.asset(
    **table_spec(TABLE, __doc__, deps=[LABELS, DECISIONS, EVENTS, *MODELS], daily=False),
    check_specs=[dg.AssetCheckSpec(CHECK, asset=table_key(TABLE), description=CHECK_DOC)],
)
def label_latency(lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]) -> dg.MaterializeResult:
    """Measure the champions whose rows are not final."""
    started, now = time.perf_counter(), datetime.now(UTC)
    champions = {f"{registry.environment}.{task}": generations(registry, task) for task in TASKS}
    final = final_rows(lakehouse, now)
    open_since = [
        generation.trained_at
        for model, generations_of_model in champions.items()
        for generation in generations_of_model
        if (model, generation.version) not in final
    ]
    decided = first_decisions(lakehouse, min(open_since, default=now))
    rows = [
        row
        for model, generations_of_model in champions.items()
        for row in measured(lakehouse, model, generations_of_model, final, decided, now)
    ]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    version = lakehouse.replace_all(TABLE, table)
    metadata = {"dagster/row_count": table.height, "delta_version": version, **totals(table)}
    seconds = round(time.perf_counter() - started, 3)
    return dg.MaterializeResult(metadata={**metadata, "seconds": seconds}, check_results=[check(table)])


def generations(registry: Registry, task: str) -> list[Generation]:
    """Return the versions that have been champion, oldest first; not copies from another lakehouse."""
    versions = registry.versions(task, every_encoder=True)
    trained = {version.version: version for version in versions if PINNED in version.record}
    events = [event for event in promotion_log(trained.values()) if event.action != "traffic"]
    before = {event.version: event.before for event in reversed(events)}
    return [
        Generation(number, before[number], int(version.record[PINNED]), version.trained_at)
        for number, version in sorted(trained.items())
        if number in before and "copied_from" not in version.record
    ]


def final_rows(lakehouse: Lakehouse, now: datetime) -> dict[Key, dict[str, Any]]:
    """Return the final rows, by model and version."""
    rows = lakehouse.read(TABLE) if lakehouse.exists(TABLE) else pl.DataFrame(schema=SCHEMA)
    final = rows.filter(pl.col("decided_at") < now - FINAL_AFTER)
    return {(row["model_name"], row["model_version"]): row for row in final.iter_rows(named=True)}


def first_decisions(lakehouse: Lakehouse, since: datetime) -> pl.DataFrame:
    """Return the first visible decision of each version, on days of decisions written since a time."""
    decisions = _decisions(lakehouse, days_written(lakehouse, DECISIONS, since))
    return decisions.group_by("model_name", "model_version").agg(pl.col("decided_at").min()).collect()


def measured(
    lakehouse: Lakehouse,
    model: str,
    champions: Sequence[Generation],
    final: Mapping[Key, dict[str, Any]],
    decided: pl.DataFrame,
    now: datetime,
) -> Iterator[dict[str, Any]]:
    """Yield a model's rows: one per champion, and one for the labels that none has seen, if any."""
    task, own_decisions = model.partition(".")[2], decided.filter(pl.col("model_name") == model)
    key, earlier = {"model_name": model, "task": task}, None
    for champion in champions:
        if (model, champion.version) in final:
            yield final[model, champion.version]
        else:
            landed = first_seen(lakehouse, task, earlier, champion.labels)
            at = own_decisions.filter(pl.col("model_version") >= champion.version)["decided_at"].min()
            has_cost = at and champion.before and len(landed)
            cost = cost_of(lakehouse, model, champion, landed, at) if has_cost else COST
            versions = {"model_version": champion.version, "before_version": champion.before}
            yield {**key, **versions, **waits(landed, at, now), **cost}
        earlier = champion
    landed = first_seen(lakehouse, task, earlier, lakehouse.version(LABELS))
    if len(landed):
        yield {**key, **waits(landed, None, now), **COST}


def first_seen(lakehouse: Lakehouse, task: str, earlier: Generation | None, version: int) -> pl.Series:
    """Return landing times of a task's labels that a version of silver/labels has and the earlier champion's has not.

    Where that version is no longer kept, of the labels that landed after the earlier champion's training.
    """
    columns, earlier_version = ("task", "received_at"), earlier.labels if earlier else None
    try:
        rows = rows_between(lakehouse, LABELS, earlier_version, version, key=catalog.table(LABELS).key, columns=columns)
    except VersionGoneError:
        rows = lakehouse.scan(LABELS).select(columns).collect()
        rows = rows.filter(pl.col("received_at") > earlier.trained_at) if earlier else rows
    return rows.filter(pl.col("task") == task)["received_at"]


def waits(landed: pl.Series, decided_at: Any, now: datetime) -> dict[str, Any]:
    """Return how long labels waited until a decision, or until now without one.

    Args:
        landed: landing time of each label.
        decided_at: first decision of a model that has seen them; None without one.
        now: the time.
    """
    seconds = ((decided_at or now) - landed).dt.total_microseconds() / 1e6
    quantiles = (seconds.quantile(0.5), seconds.quantile(0.95), seconds.max(), seconds.min())
    return {
        "labels": len(landed),
        "landed_first": landed.min(),
        "landed_last": landed.max(),
        "decided_at": decided_at,
        **dict(zip(WAITS, quantiles, strict=True)),
        "measured_at": None if decided_at else now,
    }


def cost_of(lakehouse: Lakehouse, model: str, champion: Generation, landed: pl.Series, at: Any) -> dict[str, Any]:
    """Return the ad events, while labels waited, on pages that a champion answers otherwise than the one before.

    Args:
        lakehouse: the tables.
        model: name of the model.
        champion: the champion.
        landed: landing time of each label.
        at: first decision of a model that has seen them.
    """

    def answers(version: int | None, days: Sequence[str]) -> pl.DataFrame:
        by_version = (pl.col("model_name") == model) & (pl.col("model_version") == version)
        return _decisions(lakehouse, days).filter(by_version).select(*DOCUMENT_KEY, "label", DAY).collect()

    first: Any = landed.min()
    new = answers(champion.version, days_written(lakehouse, DECISIONS, champion.trained_at))
    days = [(first + timedelta(days=n)).date().isoformat() for n in range((at.date() - first.date()).days + 1)]
    events = lakehouse.scan(EVENTS, days).filter(pl.col("event_time").is_between(first, at))
    events = events.select("document_id", "event_type", "cost_usd").collect()
    return changed(answers(champion.before, days_of(new)), new, events)


def _decisions(lakehouse: Lakehouse, days: Sequence[str]) -> pl.LazyFrame:
    """Return the decisions of some days that are visible to consumers."""
    rows = lakehouse.scan(DECISIONS, days) if days else lakehouse.scan(DECISIONS).head(0)
    return rows.filter(pl.col("traffic_arm") != "shadow")


def changed(old: pl.DataFrame, new: pl.DataFrame, events: pl.DataFrame) -> dict[str, Any]:
    """Return how many documents two champions both decided, how many of them differently, and the ad events on those.

    Args:
        old: decisions of the earlier champion: ``DOCUMENT_KEY``, label.
        new: decisions of the newer one.
        events: silver/ad_events while the old answers were visible.
    """
    compared = old.unique(DOCUMENT_KEY).join(new.unique(DOCUMENT_KEY), on=DOCUMENT_KEY, suffix="_new")
    differ = compared.filter(pl.col("label").ne_missing(pl.col("label_new")))
    affected = events.join(differ.select("document_id").unique(), on="document_id", how="semi")
    return {
        "compared": compared.height,
        "changed": differ.height,
        "impressions": affected.filter(pl.col("event_type") == "impression").height,
        "spend_usd": affected["cost_usd"].sum(),
    }


def totals(rows: pl.DataFrame) -> Mapping[str, Any]:
    """Return a materialisation's metadata: newest champions, waiting labels, and the cost of all gaps."""
    champions, waiting = newest(rows), rows.filter(pl.col("decided_at").is_null())
    worst = {name: champions[name].max() for name in WAITS}
    waiting_labels = {
        "labels_waiting": int(waiting["labels"].sum()),
        "waiting_seconds_max": waiting["seconds_max"].max(),
    }
    cost = {f"{name}_in_gaps": rows[name].sum() for name in COST}
    return {name: value for name, value in {**worst, **waiting_labels, **cost}.items() if value is not None}


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the row of each task's newest champion with a decision, other than its first champion."""
    champions = rows.drop_nulls(["before_version", "decided_at", "seconds_last"])
    return champions.sort("model_version").unique("task", keep="last", maintain_order=True).sort("task")


def check(rows: pl.DataFrame) -> dg.AssetCheckResult:
    """Return the check that the last label before each newest champion was learnt in time."""
    late = newest(rows).filter(pl.col("seconds_last") > MAX_SECONDS)
    seconds = {row["task"]: round(row["seconds_last"], 1) for row in late.iter_rows(named=True)}
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=late.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"allowed_seconds": MAX_SECONDS, "late": seconds},
    )
