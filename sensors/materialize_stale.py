"""What the graph must do next so that it is up to date with what has landed: read, clean, train, then answer."""

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
from platform_assets.silver import labels
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse
from resources.landing.ledger import TABLE as LEDGER
from resources.registry.models import Registry
from sensors import retraining, stale_days
from sensors.stale_days import RunPlan

# Copies of what the registry holds.
OF_THE_REGISTRY = ("operations/model_versions", promotions.TABLE)
# What is made of the whole of other tables, once answers have been made.
COUNTED = (QUARANTINE, LEDGER, label_latency.TABLE)
ANSWERS = ("silver/decisions", "silver/page_signals", "silver/message_signals")
# Layers that are made from answers.
AFTER = ("gold", "published", "reports", "operations")
# Runs that the sensor asked for carry this tag: one is in flight at a time.
TAG = {"seamless/materialize_stale": "true"}
# From landing to a decision by a model that has learnt is a chain of runs, each of which waits for a look.
INTERVAL = timedelta(seconds=10)
# What fails is tried again after this long, and then after twice as long.
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
    """What is known when the sensor looks.

    Attributes:
        in_flight: id of a run that it asked for and that is not over.
        failures: how many of the latest runs failed, one after the other.
        ended: when the latest ended.
        unread: bronze tables whose files hold more than has been read.
        early: days of tables that models are trained from which are stale.
        due: models that must be trained, or will have to be once ``early`` is made: the same run then trains them. Or
            the table of compared transformations.
        late: days of tables that hold answers which are stale.
        reasons: of each task, why it must be trained or not.
        unanswered: of each task that has no champion and is not due, why.
        unrecorded: the registry holds promotions that its tables lack.
    """

    in_flight: str | None = None
    failures: int = 0
    ended: datetime | None = None
    unread: tuple[str, ...] = ()
    early: tuple[RunPlan, ...] = ()
    due: tuple[str, ...] = ()
    late: tuple[RunPlan, ...] = ()
    reasons: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    unrecorded: bool = False


def decide(state: State, now: datetime) -> tuple[RunPlan | None, str]:
    """Return what must be made now, if anything, and why (not); a work without days has none.

    What fails is tried again after a wait that doubles, up to an hour.
    """
    if state.in_flight:
        return None, f"run {state.in_flight} is in flight"
    wait = min(WAIT * 2**state.failures, LONGEST_WAIT) if state.failures else timedelta()
    if state.ended and now < state.ended + wait:
        left = (state.ended + wait - now).total_seconds()
        return None, f"{state.failures} runs have failed in a row: the next is in {left:.0f} s"
    if state.unread:
        return RunPlan("", "", state.unread), f"unread files for {', '.join(state.unread)}"
    if state.early:
        work, last = state.early[0], len(state.early) == 1
        made = (
            RunPlan(work.first, work.last, (*work.tables, *state.due, *OF_THE_REGISTRY)) if state.due and last else work
        )
        return made, f"{len(work.tables)} tables are behind what has landed, {work.first} to {work.last}"
    if state.due:
        return RunPlan("", "", (*state.due, *OF_THE_REGISTRY)), "; ".join(state.reasons)
    if state.unrecorded:
        return RunPlan("", "", OF_THE_REGISTRY), "the tables of the registry lack promotions"
    if state.late:
        work = state.late[0]
        made = RunPlan(work.first, work.last, (*work.tables, *COUNTED))
        return made, f"{len(work.tables)} tables are behind the models or their inputs, {work.first} to {work.last}"
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
    """Return what there is to do, as the tables say; only as far as what comes first needs.

    Args:
        assets: all that there are.
        lakehouse: the tables.
        registry: the models.
        encoder: names the running transformation.
        now: the time.
        in_training: ids of runs that train a model now, by the model's asset.
        cool_down: least time between two trainings of a task.
        ingested: what has landed has been read: it is not looked for again.
    """
    lookups.invalidate(lakehouse)
    daily, lakehouse = stale_days.daily_inputs(assets), snapshot(lakehouse)
    unread = tuple(one.table for one in SCHEMAS if not ingested and has_unread(lakehouse, one))
    if unread:
        return State(unread=unread)
    before, after = around_training(daily)
    early = tuple(stale_days.decide(stale_days.stale(lakehouse, before, now.date(), encoder.encoder_id), before))
    coming = labels_coming(lakehouse, early)
    if early and not coming:
        return State(early=early)
    running, under = encoder.transform_id, registry.for_encoder(encoder.digest)
    verdicts = retraining.verdicts(
        lakehouse, under, running, now, in_flight=in_training, coming=coming, cool_down=cool_down
    )
    due, reasons = tuple(v.model for v in verdicts if v.needed), tuple(v.why for v in verdicts)
    unanswered = tuple(v.why for v in verdicts if not v.needed and not v.served)
    if due and not lakehouse.exists(transform_comparisons.TABLE):
        due = (*due, transform_comparisons.TABLE)  # so that it comes to be, if without rows: others read it
    elif not early and not due and transform_comparisons.due(lakehouse, encoder, registry):
        due, reasons = (transform_comparisons.TABLE,), ("the GPU has not been compared with int8",)
    if early or due:
        return State(early=early, due=due, reasons=reasons, unanswered=unanswered)
    unrecorded = promotions.behind(lakehouse, registry)
    late = stale_days.stale(lakehouse, after, now.date(), traffic=under.traffic())
    late_plans = tuple(stale_days.decide(late, after))
    return State(late=late_plans, reasons=reasons, unanswered=unanswered, unrecorded=unrecorded)


def labels_coming(lakehouse: Lakehouse, early: tuple[RunPlan, ...]) -> dict[str, int]:
    """Return how many labels of each task have been read since silver/labels was last written, on days to be made."""
    days = [date.fromisoformat(day) for work in early if labels.TABLE in work.tables for day in (work.first, work.last)]
    if not days or not lakehouse.exists(labels.TABLE):
        return {}
    (read,), written = labels.INPUTS, lakehouse.written(labels.TABLE)
    of_days = lakehouse.scan(read).filter(pl.col(DAY).is_between(min(days), max(days)))
    return dict(of_days.filter(pl.col("received_at") > written).group_by("task").len().collect().iter_rows())


def around_training(daily: Inputs) -> tuple[Inputs, Inputs]:
    """Part tables, with their inputs, into those that models are trained from and those that hold their answers."""
    late = {table: of for table, of in daily.items() if table in ANSWERS or table.split("/")[0] in AFTER}
    return {table: of for table, of in daily.items() if table not in late}, late


def in_training(instance: dg.DagsterInstance) -> dict[str, str]:
    """Return the ids of runs that train a model now, whoever asked for them, by the model's asset."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(IN_FLIGHT)))
    return {
        key.to_user_string(): run.run_id for run in runs for key in run.asset_selection or () if key.path[0] == "models"
    }


def _runs(instance: dg.DagsterInstance, state: State) -> State:
    """Return the state with what became of the runs that the sensor asked for."""
    records = instance.get_run_records(dg.RunsFilter(tags=TAG), limit=20)
    running = next((one.dagster_run.run_id for one in records if one.dagster_run.status in IN_FLIGHT), None)
    failed = [one.dagster_run.status == dg.DagsterRunStatus.FAILURE for one in records]
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
    """Bring the graph up to date with what has landed, one run at a time; all it knows is in the tables."""
    now, state = datetime.now(UTC), _runs(context.instance, State())
    if state.in_flight is None:
        known = context.repository_def.assets_defs_by_key.values() if context.repository_def else []
        training = in_training(context.instance)
        state = _runs(context.instance, observe(known, lakehouse, registry, encoder, now, training))
    work, why = decide(state, now)
    context.log.info(why)
    if work is None:
        return dg.SkipReason(why)
    days = {RANGE_START: work.first, RANGE_END: work.last} if work.first else {}
    return dg.RunRequest(asset_selection=[dg.AssetKey(table.split("/")) for table in work.tables], tags={**TAG, **days})
