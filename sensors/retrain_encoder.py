"""Tuning of the encoder: rare, once there are enough labelled texts, and again when they have doubled.

It is also tuned again two weeks after texts that tuned it were erased: within the month that the law allows, and once
for all who were erased meanwhile, because it takes hours.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from governance.promotion_log import ENCODER
from platform_assets.conventions import table_key
from platform_assets.models.encoder import ENCODER_MODEL, LEAST_TEXTS, teaching_texts, unsettled
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from sensors.materialize_stale import IN_FLIGHT, REGISTRY_TABLES

GROWTH = 2
ERASED_WAIT = timedelta(days=14)
TAG = {"seamless/retrain_encoder": "true"}
INTERVAL = timedelta(minutes=5)
# Wait after a failed run.
WAIT = timedelta(hours=1)


@dataclass(frozen=True)
class State:
    """Distinct labelled texts now, those that tuned the newest version, and whether its run was killed.

    ``erased``: texts that tuned it were erased long enough ago.
    """

    texts: int
    tuned_on: int | None
    unsettled: bool
    erased: bool = False


def decide(state: State) -> tuple[bool, str]:
    """Say whether the encoder must be tuned, or a killed run resumed, and why (not)."""
    if state.unsettled:
        return True, "encoder: the newest version is neither champion nor refused"
    if state.erased and state.texts >= LEAST_TEXTS:
        return True, "encoder: texts that tuned the newest version are erased"
    needed = LEAST_TEXTS if state.tuned_on is None else GROWTH * state.tuned_on
    return state.texts >= needed, f"encoder: {state.texts} labelled texts of {needed}"


def observe(lakehouse: Lakehouse, registry: Registry) -> State:
    """Return the state of labels and registry."""
    if registry.configured_encoder:
        return State(0, None, unsettled=False)
    newest = next(iter(registry.versions(ENCODER)), None)
    tuned_on = None if newest is None else int(newest.record["texts"])
    erased_at = None if newest is None else newest.erased_at
    erased = erased_at is not None and datetime.now(UTC) >= erased_at + ERASED_WAIT
    return State(teaching_texts(lakehouse), tuned_on, unsettled(registry) is not None, erased)


@dg.sensor(
    target=dg.AssetSelection.assets(*map(table_key, (ENCODER_MODEL, *REGISTRY_TABLES))),
    minimum_interval_seconds=int(INTERVAL.total_seconds()),
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def retrain_encoder(
    context: dg.SensorEvaluationContext, lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]
) -> dg.RunRequest | dg.SkipReason:
    """Tune the encoder beside all other runs, one run at a time."""
    last = next(iter(context.instance.get_run_records(dg.RunsFilter(tags=TAG), limit=1)), None)
    if last is not None and last.dagster_run.status in IN_FLIGHT:
        return dg.SkipReason(f"run {last.dagster_run.run_id} is in flight")
    failed = last is not None and last.dagster_run.status == dg.DagsterRunStatus.FAILURE
    if failed and datetime.fromtimestamp(last.end_time or 0, UTC) + WAIT > datetime.now(UTC):
        return dg.SkipReason(f"run {last.dagster_run.run_id} has failed: the next is {WAIT} after it")
    needed, why = decide(observe(lakehouse, registry))
    return dg.RunRequest(tags=TAG) if needed else dg.SkipReason(why)
