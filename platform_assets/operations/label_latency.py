"""One row is one champion of a task: how long labels waited until a model that has seen them decided something.

Those that none has seen are a row without a version. A label is seen by a version if it is in ``silver/labels`` at the
Delta version that its training has pinned. It waits from ``received_at``, when it was read from where it landed, to
``decided_at``, the first decision by that version or a later one that was not only in shadow; until there is one, it
waits to ``measured_at``. ``seconds_last`` is of the label that landed last: what the platform itself took, without the
wait for enough labels. The labels of a task's first champion were there before it was asked: its row has no
``before_version`` and counts in no total.

What the gap cost is told by the documents that both this champion and the one before decided, in ``compared``: how many
answers ``changed``, and the impressions and the spend on those pages between the first label's landing and
``decided_at``. A champion's row is final a day after that: until then late events count. Reads the days of labels that
have changed between two trainings, and the decisions of the days written since.
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
from resources.lakehouse.tables import Lakehouse, VersionGoneError
from resources.registry.models import Registry
from resources.registry.versions import promotion_log
from signals.classify import DOCUMENT_KEY
from signals.tasks import TASKS

TABLE = "operations/label_latency"
LABELS, EVENTS = "silver/labels", "silver/ad_events"
PINNED = f"version:{LABELS}"
MOMENT = pl.Datetime("us", "UTC")
WAITS = ("seconds_p50", "seconds_p95", "seconds_max", "seconds_last")
COST = {"compared": 0, "changed": 0, "impressions": 0, "spend_usd": 0.0}
SCHEMA = {
    "model_name": pl.String,
    "task": pl.String,
    "model_version": pl.Int64,
    "before_version": pl.Int64,
    "labels": pl.Int64,
    "landed_first": MOMENT,
    "landed_last": MOMENT,
    "decided_at": MOMENT,
    **dict.fromkeys(WAITS, pl.Float64),
    "compared": pl.Int64,
    "changed": pl.Int64,
    "impressions": pl.Int64,
    "spend_usd": pl.Float64,
    "measured_at": MOMENT,
}
FINAL_AFTER = timedelta(days=1)
CHECK, MOST_SECONDS = "learns_in_time", 120
CHECK_DOC = f"The label that landed last before each task's newest champion waited {MOST_SECONDS} s at most."
# Name and version of a model.
Key = tuple[str, int]


@dataclass(frozen=True)
class Generation:
    """A version that has been champion.

    Attributes:
        version: its number.
        before: the champion before it; None if it was the first.
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
    """Measure what is not final yet, and keep what is."""
    started, now = time.perf_counter(), datetime.now(UTC)
    champions = {f"{registry.environment}.{task}": generations(registry, task) for task in TASKS}
    final = finished(lakehouse, now)
    unfinished = [one.trained_at for model, of in champions.items() for one in of if (model, one.version) not in final]
    decided = first_decisions(lakehouse, min(unfinished, default=now))
    rows = [row for model, of in champions.items() for row in measured(lakehouse, model, of, final, decided, now)]
    found = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    version = lakehouse.replace_all(TABLE, found)
    shown = {"dagster/row_count": found.height, "delta_version": version, **totals(found)}
    seconds = round(time.perf_counter() - started, 3)
    return dg.MaterializeResult(metadata={**shown, "seconds": seconds}, check_results=[check(found)])


def generations(registry: Registry, task: str) -> list[Generation]:
    """Return the versions that have been champion, oldest first; not copies, whose labels are another lakehouse's."""
    trained = {one.version: one for one in registry.versions(task, every_encoder=True) if PINNED in one.record}
    events = [event for event in promotion_log(trained.values()) if event.action != "traffic"]
    before = {event.version: event.before for event in reversed(events)}
    return [
        Generation(version, before[version], int(one.record[PINNED]), one.trained_at)
        for version, one in sorted(trained.items())
        if version in before and "copied_from" not in one.record
    ]


def finished(lakehouse: Lakehouse, now: datetime) -> dict[Key, dict[str, Any]]:
    """Return the rows that change no more, by model and version."""
    rows = lakehouse.read(TABLE) if lakehouse.exists(TABLE) else pl.DataFrame(schema=SCHEMA)
    final = rows.filter(pl.col("decided_at") < now - FINAL_AFTER)
    return {(row["model_name"], row["model_version"]): row for row in final.iter_rows(named=True)}


def first_decisions(lakehouse: Lakehouse, since: datetime) -> pl.DataFrame:
    """Return when each version first decided what someone could read, on days of decisions written since a moment."""
    read = _decisions(lakehouse, days_written(lakehouse, DECISIONS, since))
    return read.group_by("model_name", "model_version").agg(pl.col("decided_at").min()).collect()


def measured(
    lakehouse: Lakehouse,
    model: str,
    champions: Sequence[Generation],
    final: Mapping[Key, dict[str, Any]],
    decided: pl.DataFrame,
    now: datetime,
) -> Iterator[dict[str, Any]]:
    """Yield a model's rows: one a champion, and one for the labels that none has seen, if there are any."""
    task, by_it = model.partition(".")[2], decided.filter(pl.col("model_name") == model)
    named, earlier = {"model_name": model, "task": task}, None
    for one in champions:
        if (model, one.version) in final:
            yield final[model, one.version]
        else:
            landed = first_seen(lakehouse, task, earlier, one.labels)
            at = by_it.filter(pl.col("model_version") >= one.version)["decided_at"].min()
            cost = cost_of(lakehouse, model, one, landed, at) if at and one.before and len(landed) else COST
            versions = {"model_version": one.version, "before_version": one.before}
            yield {**named, **versions, **waited(landed, at, now), **cost}
        earlier = one
    landed = first_seen(lakehouse, task, earlier, lakehouse.version(LABELS))
    if len(landed):
        yield {**named, **waited(landed, None, now), **COST}


def first_seen(lakehouse: Lakehouse, task: str, earlier: Generation | None, version: int) -> pl.Series:
    """Return when the labels of a task landed that a version of silver/labels has, and an earlier champion's has not.

    Where that version is no longer kept, those that landed after the earlier champion's training.
    """
    columns, seen = ("task", "received_at"), earlier.labels if earlier else None
    try:
        rows = rows_between(lakehouse, LABELS, seen, version, key=catalog.table(LABELS).key, columns=columns)
    except VersionGoneError:
        rows = lakehouse.scan(LABELS).select(columns).collect()
        rows = rows.filter(pl.col("received_at") > earlier.trained_at) if earlier else rows
    return rows.filter(pl.col("task") == task)["received_at"]


def waited(landed: pl.Series, decided_at: Any, now: datetime) -> dict[str, Any]:
    """Return how long labels waited until a decision, or have been waiting until now if there is none.

    Args:
        landed: when each landed.
        decided_at: when a model that has seen them first decided; None if none has.
        now: the moment of measuring.
    """
    seconds = ((decided_at or now) - landed).dt.total_microseconds() / 1e6
    figures = (seconds.quantile(0.5), seconds.quantile(0.95), seconds.max(), seconds.min())
    return {
        "labels": len(landed),
        "landed_first": landed.min(),
        "landed_last": landed.max(),
        "decided_at": decided_at,
        **dict(zip(WAITS, figures, strict=True)),
        "measured_at": None if decided_at else now,
    }


def cost_of(lakehouse: Lakehouse, model: str, champion: Generation, landed: pl.Series, at: Any) -> dict[str, Any]:
    """Return what ran, while labels waited, on the pages of which a champion says otherwise than the one before.

    Args:
        lakehouse: has the decisions and the events.
        model: name of the model.
        champion: the champion.
        landed: when the labels landed.
        at: the first decision by one that has seen them.
    """

    def answers(version: int | None, days: Sequence[str]) -> pl.DataFrame:
        by_it = (pl.col("model_name") == model) & (pl.col("model_version") == version)
        return _decisions(lakehouse, days).filter(by_it).select(*DOCUMENT_KEY, "label", DAY).collect()

    first: Any = landed.min()
    new = answers(champion.version, days_written(lakehouse, DECISIONS, champion.trained_at))
    days = [(first + timedelta(days=n)).date().isoformat() for n in range((at.date() - first.date()).days + 1)]
    events = lakehouse.scan(EVENTS, days).filter(pl.col("event_time").is_between(first, at))
    seen = events.select("document_id", "event_type", "cost_usd").collect()
    return changed(answers(champion.before, days_of(new)), new, seen)


def _decisions(lakehouse: Lakehouse, days: Sequence[str]) -> pl.LazyFrame:
    """Return the decisions of some days that someone could read."""
    rows = lakehouse.scan(DECISIONS, days) if days else lakehouse.scan(DECISIONS).head(0)
    return rows.filter(pl.col("traffic_arm") != "shadow")


def changed(old: pl.DataFrame, new: pl.DataFrame, events: pl.DataFrame) -> dict[str, Any]:
    """Return how many documents two champions both decided, how many differently, and the events on those.

    Args:
        old: decisions of the earlier one: ``DOCUMENT_KEY``, label.
        new: those of the newer one.
        events: silver/ad_events while the old answers were read.
    """
    both = old.unique(DOCUMENT_KEY).join(new.unique(DOCUMENT_KEY), on=DOCUMENT_KEY, suffix="_new")
    differ = both.filter(pl.col("label") != pl.col("label_new"))
    on_them = events.join(differ.select("document_id").unique(), on="document_id", how="semi")
    return {
        "compared": both.height,
        "changed": differ.height,
        "impressions": on_them.filter(pl.col("event_type") == "impression").height,
        "spend_usd": on_them["cost_usd"].sum(),
    }


def totals(rows: pl.DataFrame) -> Mapping[str, Any]:
    """Return the figures of a materialisation: of newest champions, of labels that wait, and of all gaps' cost."""
    learnt, waiting = newest(rows), rows.filter(pl.col("decided_at").is_null())
    worst = {name: learnt[name].max() for name in WAITS}
    waits = {"labels_waiting": int(waiting["labels"].sum()), "waiting_seconds_max": waiting["seconds_max"].max()}
    cost = {f"{name}_in_gaps": rows[name].sum() for name in COST}
    return {name: value for name, value in {**worst, **waits, **cost}.items() if value is not None}


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the row of each task's newest champion that has decided; not of a first champion."""
    learnt = rows.drop_nulls(["before_version", "decided_at", "seconds_last"])
    return learnt.sort("model_version").unique("task", keep="last", maintain_order=True).sort("task")


def check(rows: pl.DataFrame) -> dg.AssetCheckResult:
    """Return whether the newest champions have learnt in time what landed last before them."""
    late = newest(rows).filter(pl.col("seconds_last") > MOST_SECONDS)
    said = {row["task"]: round(row["seconds_last"], 1) for row in late.iter_rows(named=True)}
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=late.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"allowed_seconds": MOST_SECONDS, "late": said},
    )
