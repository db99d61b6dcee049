"""`seamless run`: materialise every stale table and model, in as few runs as the graph's order needs."""

import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from platform_assets.definitions import defs
from platform_assets.models.encoder import ENCODER_MODEL
from platform_assets.operations import transform_comparisons
from resources.encoder import encoder
from resources.lakehouse.tables import lakehouse
from resources.registry.models import registry
from resources.settings import PROJECT, settings
from sensors import retrain_encoder
from sensors.materialize_stale import CONSUMER_LAYERS, RANGE_END, RANGE_START, REGISTRY_TABLES, decide, observe
from sensors.stale_days import RunPlan
from serving.cli.progress import every

Progress = Callable[[str, int, int], None]
POLL_SECONDS = 0.5


class RunFailedError(RuntimeError):
    """A step of the graph failed."""


@dataclass
class Step:
    """One materialised asset, with its materialisation's metadata."""

    asset: str
    metadata: dict[str, Any]


@dataclass
class Report:
    """The results of a run.

    Attributes:
        steps: materialisations.
        failed_checks: a line each.
        unanswered: tasks without a model, with the reason.
        seconds: time by stage.
    """

    steps: list[Step] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(progress: Progress) -> Report:
    """Bring every table up to date with the landed files, by the plan that the sensors follow.

    Args:
        progress: called with the stage, the number of its finished tables, and of all its tables.

    Raises:
        RunFailedError: a step failed. Tables written before it stay, and the next run resumes.
    """
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT))
    definitions, report, settings_ = defs(), Report(), settings()
    tables, models, serving = lakehouse(settings_), registry(settings_), encoder(settings_)
    graph = definitions.resolve_asset_graph()
    assets = [asset for asset in graph.assets_defs if isinstance(asset, dg.AssetsDefinition)]
    tuning_error: RunFailedError | None = None
    ingested, tuning_considered, last_plan = False, False, None
    trained: dict[str, str] = {}
    with dg.DagsterInstance.get() as instance:

        def materialise(plan: RunPlan) -> None:
            keys = [dg.AssetKey(name.split("/")) for name in plan.tables]
            _materialise(definitions, instance, stage_of(plan), keys, (plan.first, plan.last), report, progress)

        while True:
            serving, now = serving.now(), datetime.now(UTC)
            # Models that this run has trained count as in training, so none is trained twice on the same labels.
            state = observe(assets, tables, models, serving, now, trained, timedelta(), ingested=ingested)
            if not trained:
                report.unanswered = [*state.unanswered]
            plan, _ = decide(state, now)
            if not (tuning_considered or state.unread or state.input_plans or state.due):
                tuning_considered = True
                if retrain_encoder.decide(retrain_encoder.observe(tables, models))[0]:
                    try:
                        materialise(RunPlan("", "", (ENCODER_MODEL, *REGISTRY_TABLES)))
                    except RunFailedError as error:  # the one that serves goes on serving
                        tuning_error = error
                    trained = {}
                    continue
            if plan is None:
                break
            if plan == last_plan:
                raise RunFailedError(f"{', '.join(plan.tables)} are stale again as soon as they are materialised")
            materialise(plan)
            ingested, last_plan = True, plan
            trained |= {table: "this" for table in plan.tables if table.startswith("models/")}
    if tuning_error:
        raise tuning_error
    return report


def stage_of(plan: RunPlan) -> str:
    """Return the name of a plan's stage, for the progress bar and the summary."""
    if plan.tables[0] == transform_comparisons.TABLE:
        return "compare precisions"
    layers = {table.partition("/")[0] for table in plan.tables}
    if layers == {"bronze"}:
        return "ingest"
    if ENCODER_MODEL in plan.tables:
        return "tune the encoder"
    if "models" in layers:
        return "clean, encode and train" if "silver" in layers else "train"
    return "decide and report" if layers & {*CONSUMER_LAYERS} else "clean and encode"


def _materialise(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    stage: str,
    keys: list[dg.AssetKey],
    days: tuple[str, str],
    report: Report,
    progress: Progress,
) -> None:
    started, run_id = time.perf_counter(), str(uuid.uuid4())
    tags = {RANGE_START: days[0], RANGE_END: days[1]} if days[0] else {}
    job = definitions.resolve_implicit_global_asset_job_def()
    with _reporting(instance, run_id, stage, len(keys), progress):
        result = job.execute_in_process(
            instance=instance, asset_selection=keys, tags=tags, raise_on_error=False, run_id=run_id
        )
    report.steps += list(_steps(result))
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            report.failed_checks.append(f"{check.asset_key.to_user_string()}: {check.check_name}")
    report.seconds[stage] = report.seconds.get(stage, 0.0) + time.perf_counter() - started
    if not result.success:
        failed = next(event for event in result.all_events if event.is_step_failure)
        error = failed.step_failure_data.error
        cause = error.cause or error if error else None
        raise RunFailedError(f"{failed.step_key}: {cause.message.strip() if cause else 'failed'}")


@contextmanager
def _reporting(
    instance: dg.DagsterInstance, run_id: str, stage: str, steps: int, progress: Progress
) -> Generator[None]:
    """Report the progress of a run that goes on in this thread."""
    done, cursor = 0, None

    def report() -> None:
        nonlocal done, cursor
        # From the last cursor on: reading a run's whole log twice a second would slow the run.
        page = instance.get_records_for_run(run_id, cursor, {dg.DagsterEventType.STEP_SUCCESS})
        done, cursor = done + len(page.records), page.cursor
        progress(stage, min(done, steps), steps)  # checks are steps too

    progress(stage, 0, steps)
    with every(POLL_SECONDS, report):
        yield


def _steps(result: dg.ExecuteInProcessResult) -> Iterator[Step]:
    names = set()
    for event in result.get_asset_materialization_events():
        materialisation = event.materialization
        name = materialisation.asset_key.to_user_string()
        if name not in names:  # a range of days is one event a day
            names.add(name)
            yield Step(name, {key: value.value for key, value in materialisation.metadata.items()})
