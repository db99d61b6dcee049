"""`seamless run`: whatever has landed, through the whole graph, in as few runs as its order needs."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg

from governance import catalog
from platform_assets import lookups
from platform_assets.definitions import defs
from platform_assets.models import parity
from platform_assets.models.encoder import ENCODER_MODEL
from platform_assets.operations import promotions
from resources.encoder import Encoder
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.settings import PROJECT
from sensors import retrain_encoder, retraining
from sensors.materialize_stale import COUNTED, OF_THE_REGISTRY, RANGE_END, RANGE_START, Inputs, around_training
from sensors.stale_days import RunPlan, daily_inputs, decide, stale

Progress = Callable[[str, int, int], None]
POLL_SECONDS = 0.5
# What says how far a run is: steps that are done, and what a long one says of itself.
TELLING = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.ASSET_OBSERVATION}


class RunFailedError(RuntimeError):
    """A step of the graph failed."""


@dataclass
class Step:
    """One materialised asset: its table or model, and what its materialisation says."""

    asset: str
    metadata: dict[str, Any]


@dataclass
class Report:
    """What a run did: materialisations, failed checks, why tasks stay unanswered, seconds of each stage."""

    steps: list[Step] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(progress: Progress) -> Report:
    """Bring every table up to date with what has landed.

    Args:
        progress: called with the stage, and how many of its tables are done.

    Raises:
        RunFailedError: a step failed; what was written before it stays, and the next run goes on from there.
    """
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT))
    definitions, report = defs(), Report()
    lakehouse, registry, encoder = _resources(definitions)
    assets = [
        asset for asset in definitions.resolve_asset_graph().assets_defs if isinstance(asset, dg.AssetsDefinition)
    ]
    daily = daily_inputs(assets)
    today = datetime.now(UTC).date()
    early, late = around_training(daily)
    with dg.DagsterInstance.get() as instance:

        def materialise(stage: str, wanted: Iterable[str], days: tuple[str, str] | None = None) -> None:
            keys = [dg.AssetKey(name.split("/")) for name in wanted]
            _materialise(definitions, instance, stage, keys, days, report, progress)

        materialise("ingest", catalog.names("bronze"))

        def make(stage: str, tables: Inputs, *also: str, **state: Any) -> None:
            for work in until_none(partial(behind, lakehouse, tables, today, **state)):
                materialise(stage, [*work.tables, *also], (work.first, work.last))

        def encode_and_train(encoder: Encoder) -> None:
            make("clean and encode", early, encoder_id=encoder.encoder_id)
            now, under = datetime.now(UTC), registry.under(encoder.digest)
            verdicts = retraining.verdicts(lakehouse, under, encoder.transform_id, now, cool_down=timedelta())
            due = [verdict.model for verdict in verdicts if verdict.needed]
            report.unanswered = [verdict.why for verdict in verdicts if not verdict.needed and not verdict.served]
            if due or promotions.behind(lakehouse, registry):
                materialise("train", [*due, *OF_THE_REGISTRY])

        encode_and_train(encoder.now())
        untuned: RunFailedError | None = None
        if retrain_encoder.decide(retrain_encoder.observe(lakehouse, registry))[0]:
            try:
                materialise("tune the encoder", [ENCODER_MODEL, *OF_THE_REGISTRY])
            except RunFailedError as error:  # the one that serves goes on serving
                untuned = error
            encode_and_train(encoder.now())
        if parity.due(encoder.now(), registry):
            materialise("compare precisions", [parity.PARITY_MODEL])
            encode_and_train(encoder.now())
        make("decide and report", late, *COUNTED, traffic=registry.under(encoder.now().digest).traffic())
        if untuned:
            raise untuned
    return report


def behind(lakehouse: Lakehouse, tables: Inputs, today: date, **state: Any) -> list[RunPlan]:
    """Return what must be made of some tables; ``state`` is what ``stale`` must know of encoder and models."""
    lookups.invalidate(lakehouse)
    return decide(stale(snapshot(lakehouse), tables, today, **state), tables)


def until_none(look: Callable[[], list[RunPlan]]) -> Iterator[RunPlan]:
    """Yield what is behind, oldest days first, and what that has left behind elsewhere, until nothing is.

    Raises:
        RunFailedError: the same is behind again after it was made.
    """
    last: list[RunPlan] = []
    while found := look():
        if found == last:
            raise RunFailedError(f"{', '.join(found[0].tables)} are behind again as soon as they are made")
        yield from found
        last = found


def _resources(definitions: dg.Definitions) -> tuple[Lakehouse, Registry, Encoder]:
    found: Mapping[str, Any] = definitions.resources or {}
    return found["lakehouse"], found["registry"], found["encoder"]


def _materialise(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    stage: str,
    keys: list[dg.AssetKey],
    days: tuple[str, str] | None,
    report: Report,
    progress: Progress,
) -> None:
    started, run_id = time.perf_counter(), str(uuid.uuid4())
    tags = {RANGE_START: days[0], RANGE_END: days[1]} if days else {}
    job = definitions.resolve_implicit_global_asset_job_def()
    with _watched(instance, run_id, stage, len(keys), progress):
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
def _watched(instance: dg.DagsterInstance, run_id: str, stage: str, steps: int, progress: Progress) -> Generator[None]:
    """Tell the progress of a run while it goes on in this thread."""
    over = threading.Event()

    def watch() -> None:
        done, cursor = 0, None
        while not over.wait(POLL_SECONDS):
            # From the last look on: reading a run's whole log twice a second would slow the run.
            found = instance.get_records_for_run(run_id, cursor, TELLING)
            seen = [record.event_log_entry.get_dagster_event() for record in found.records]
            done += sum(event.event_type is dg.DagsterEventType.STEP_SUCCESS for event in seen)
            cursor = found.cursor
            if seen and seen[-1].event_type is dg.DagsterEventType.ASSET_OBSERVATION:
                told = seen[-1].asset_observation_data.asset_observation.metadata
                progress(stage, *(int(str(told[name].value)) for name in ("done", "of")))
            elif seen:
                progress(stage, min(done, steps), steps)  # checks are steps too

    progress(stage, 0, steps)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _steps(result: dg.ExecuteInProcessResult) -> Iterator[Step]:
    seen = set()
    for event in result.get_asset_materialization_events():
        materialisation = event.materialization
        name = materialisation.asset_key.to_user_string()
        if name not in seen:  # a range of days is one event a day
            seen.add(name)
            yield Step(name, {key: value.value for key, value in materialisation.metadata.items()})
