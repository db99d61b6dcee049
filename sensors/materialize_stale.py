"""The next run of the graph: ingest what has landed, make its rows, train, then make decisions and what follows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from platform_assets import lookups
from platform_assets.bronze import SCHEMAS
from platform_assets.ingestion import has_unread
from platform_assets.operations import label_latency, promotions, transform_comparisons
from platform_assets.publishing import QUARANTINE
from platform_assets.silver import decisions, labels
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse
from resources.landing.ledger import TABLE as LEDGER
from resources.registry.models import Registry
from sensors import retraining, stale_days
from sensors.stale_days import RunPlan

# Copies of the registry.
REGISTRY_TABLES = ("operations/model_versions", promotions.TABLE)
# Tables made from other tables as a whole, after the decisions.
SUMMARY_TABLES = (QUARANTINE, LEDGER, label_latency.TABLE)
# Layers that are made after the decisions.
CONSUMER_LAYERS = ("gold", "published", "reports", "operations")
# Tag of the sensor's runs; one is in flight at a time.
TAG = {"seamless/materialize_stale": "true"}
# Each run in the chain from a landed label to a decision by a model that has seen it waits for one evaluation.
INTERVAL = timedelta(seconds=10)
# Wait after a failed run, doubled with each further failure.
WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
Inputs = Mapping[str, tuple[str, ...]]
IN_FLIGHT = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True)
class State:
    """The observed state of runs, tables and models.

    Attributes:
        in_flight: id of the sensor's run that has not ended.
        failures: number of latest runs that failed in a row.
        ended: end of the latest run.
        unread: bronze tables with unread records.
        input_plans: plans for stale tables that models are trained from, oldest days first.
        due: models to train, now or in the run that makes the last of ``input_plans``; or the table of compared
            transformations.
        decision_plans: plans for stale tables with decisions, and for those made from them.
        reasons: for each task, why it is to be trained or not.
        unanswered: for each task without a champion that is not due, why.
        unrecorded: the registry has promotions that its tables lack.
    """

    in_flight: str | None = None
    failures: int = 0
    ended: datetime | None = None
    unread: tuple[str, ...] = ()
    input_plans: tuple[RunPlan, ...] = ()
    due: tuple[str, ...] = ()
    decision_plans: tuple[RunPlan, ...] = ()
    reasons: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    unrecorded: bool = False


def decide(state: State, now: datetime) -> tuple[RunPlan | None, str]:
    """Return the plan of the next run, if any, and why (not); a plan of tables without partitions has no days.

    After a failure the next run waits, twice as long each time, up to an hour.
    """
    if state.in_flight:
        return None, f"run {state.in_flight} is in flight"
    wait = min(WAIT * 2**state.failures, LONGEST_WAIT) if state.failures else timedelta()
    if state.ended and now < state.ended + wait:
        left = (state.ended + wait - now).total_seconds()
        return None, f"{state.failures} runs have failed in a row: the next is in {left:.0f} s"
    if state.unread:
        return RunPlan("", "", state.unread), f"unread files for {', '.join(state.unread)}"
    if state.input_plans:
        plan = state.input_plans[0]
        trains = state.due and len(state.input_plans) == 1
        tables = (*plan.tables, *state.due, *REGISTRY_TABLES) if trains else plan.tables
        why = f"{len(plan.tables)} tables are behind what has landed, {plan.first} to {plan.last}"
        return RunPlan(plan.first, plan.last, tables), why
    if state.due:
        return RunPlan("", "", (*state.due, *REGISTRY_TABLES)), "; ".join(state.reasons)
    if state.unrecorded:
        return RunPlan("", "", REGISTRY_TABLES), "the tables of the registry lack promotions"
    if state.decision_plans:
        plan = state.decision_plans[0]
        why = f"{len(plan.tables)} tables are behind the models or their inputs, {plan.first} to {plan.last}"
        return RunPlan(plan.first, plan.last, (*plan.tables, *SUMMARY_TABLES)), why
    return None, f"all tables are up to date; {'; '.join(state.reasons)}"


def observe(
    assets: Iterable[dg.AssetsDefinition],
    lakehouse: Lakehouse,
    registry: Registry,
    encoder: Encoder,
    now: datetime,
    in_training: Mapping[str, str],
    cool_down: timedelta = retraining.COOL_DOWN,
    *,
    ingested: bool = False,
) -> State:
    """Return the state of tables and models, only as far as the next plan needs it.

    Args:
        assets: all assets.
        lakehouse: the tables.
        registry: the models.
        encoder: the serving encoder.
        now: the time.
        in_training: ids of runs that train a model now, by the model's asset.
        cool_down: minimum time between two trainings of a task.
        ingested: landed files are read already, and not looked for again.
    """
    lookups.invalidate(lakehouse)
    daily, lakehouse = stale_days.daily_inputs(assets), snapshot(lakehouse)
    unread = tuple(expected.table for expected in SCHEMAS if not ingested and has_unread(lakehouse, expected))
    if unread:
        return State(unread=unread)
    training_inputs, consumers = split_at_training(daily)
    stale = stale_days.stale(lakehouse, training_inputs, now.date(), encoder.encoder_id)
    input_plans = tuple(stale_days.decide(stale, training_inputs, stale_days.sizes(lakehouse, training_inputs)))
    incoming = incoming_labels(lakehouse, input_plans)
    if input_plans and not incoming:
        return State(input_plans=input_plans)
    heads = registry.for_encoder(encoder.digest)
    verdicts = retraining.verdicts(
        lakehouse, heads, encoder.transform_id, now, in_flight=in_training, incoming=incoming, cool_down=cool_down
    )
    due = tuple(verdict.model for verdict in verdicts if verdict.needed)
    reasons = tuple(verdict.why for verdict in verdicts)
    unanswered = tuple(verdict.why for verdict in verdicts if not verdict.needed and not verdict.served)
    if due and not lakehouse.exists(transform_comparisons.TABLE):
        due = (*due, transform_comparisons.TABLE)  # created, maybe without rows, because others read it
    elif not input_plans and not due and transform_comparisons.due(lakehouse, encoder, registry):
        due, reasons = (transform_comparisons.TABLE,), ("the GPU has not been compared with int8",)
    if input_plans or due:
        return State(input_plans=input_plans, due=due, reasons=reasons, unanswered=unanswered)
    unrecorded = promotions.behind(lakehouse, registry)
    stale = stale_days.stale(lakehouse, consumers, now.date(), traffic=heads.traffic())
    plans = tuple(stale_days.decide(stale, consumers, stale_days.sizes(lakehouse, consumers)))
    return State(decision_plans=plans, reasons=reasons, unanswered=unanswered, unrecorded=unrecorded)


def incoming_labels(lakehouse: Lakehouse, plans: tuple[RunPlan, ...]) -> dict[str, int]:
    """Return the number of labels of each task that plans will bring into silver/labels."""
    ranges = [(plan.first, plan.last) for plan in plans if labels.TABLE in plan.tables]
    days = [date.fromisoformat(day) for first_and_last in ranges for day in first_and_last]
    if not days or not lakehouse.exists(labels.TABLE):
        return {}
    (bronze,), written = labels.INPUTS, lakehouse.written(labels.TABLE)
    rows = lakehouse.scan(bronze).filter(pl.col(DAY).is_between(min(days), max(days)))
    return dict(rows.filter(pl.col("received_at") > written).group_by("task").len().collect().iter_rows())


def split_at_training(daily: Inputs) -> tuple[Inputs, Inputs]:
    """Split tables, with their inputs, into those that models are trained from and those made from decisions."""
    decided = stale_days.with_derived({decisions.TABLE}, daily)
    consumers = {
        table: inputs for table, inputs in daily.items() if table in decided or table.split("/")[0] in CONSUMER_LAYERS
    }
    return {table: inputs for table, inputs in daily.items() if table not in consumers}, consumers


def in_training(instance: dg.DagsterInstance) -> dict[str, str]:
    """Return the ids of runs that train a model now, whoever started them, by the model's asset."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(IN_FLIGHT)))
    return {
        key.to_user_string(): run.run_id for run in runs for key in run.asset_selection or () if key.path[0] == "models"
    }


def _with_runs(instance: dg.DagsterInstance, state: State) -> State:
    """Return the state with the outcome of the sensor's latest runs."""
    records = instance.get_run_records(dg.RunsFilter(tags=TAG), limit=20)
    running = next((record.dagster_run.run_id for record in records if record.dagster_run.status in IN_FLIGHT), None)
    failed = [record.dagster_run.status == dg.DagsterRunStatus.FAILURE for record in records]
    failures = failed.index(False) if False in failed else len(failed)
    end = records[0].end_time if records else None
    ended = None if end is None else datetime.fromtimestamp(end, UTC)
    return replace(state, in_flight=running, failures=failures, ended=ended)


@dg.sensor(
    target=dg.AssetSelection.all(),
    minimum_interval_seconds=int(INTERVAL.total_seconds()),
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def materialize_stale(
    context: dg.SensorEvaluationContext,
    lakehouse: dg.ResourceParam[Lakehouse],
    registry: dg.ResourceParam[Registry],
    encoder: dg.ResourceParam[Encoder],
) -> dg.RunRequest | dg.SkipReason:
    """Bring the graph up to date with what has landed, one run at a time; all state is in tables and registry."""
    now, state = datetime.now(UTC), _with_runs(context.instance, State())
    if state.in_flight is None:
        assets = context.repository_def.assets_defs_by_key.values() if context.repository_def else []
        training = in_training(context.instance)
        state = _with_runs(context.instance, observe(assets, lakehouse, registry, encoder, now, training))
    plan, why = decide(state, now)
    context.log.info(why)
    if plan is None:
        return dg.SkipReason(why)
    days = {RANGE_START: plan.first, RANGE_END: plan.last} if plan.first else {}
    return dg.RunRequest(asset_selection=[dg.AssetKey(table.split("/")) for table in plan.tables], tags={**TAG, **days})
