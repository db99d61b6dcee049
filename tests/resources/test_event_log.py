from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.event_log import SqliteEventLogStorage

from resources.event_log import OPEN_FILES, forget
from tests.conftest import instance


@dg.asset
def thing() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 3})


@pytest.fixture
def log(tmp_path: Path):
    instance(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        yield found


def test_dagsters_own_class_reads_what_was_stored(log: dg.DagsterInstance, tmp_path: Path):
    ran = dg.materialize([thing], instance=log)
    told = yaml.safe_load((tmp_path / "dagster.yaml").read_text())["event_log_storage"]["config"]["base_dir"]
    theirs = SqliteEventLogStorage(told)
    kept = [event.dagster_event_type for event in theirs.get_logs_for_run(ran.run_id)]
    assert kept == [event.dagster_event_type for event in log.all_logs(ran.run_id)]
    assert {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.RUN_SUCCESS} <= set(kept)
    assert theirs.get_latest_materialization_events([thing.key])[thing.key] is not None


def test_runs_are_read_after_their_files_were_closed(log: dg.DagsterInstance):
    runs = [dg.materialize([thing], instance=log).run_id for _ in range(OPEN_FILES + 2)]
    assert all(log.all_logs(run, of_type=dg.DagsterEventType.RUN_SUCCESS) for run in runs)
    still_open = {Path(file).resolve().stem for file in Path("/proc/self/fd").iterdir()}
    assert len(still_open.intersection(runs)) <= OPEN_FILES


def test_a_wiped_log_takes_events_again(log: dg.DagsterInstance):
    before = dg.materialize([thing], instance=log).run_id
    log.wipe()
    after = dg.materialize([thing], instance=log).run_id
    assert log.all_logs(before) == []
    assert log.all_logs(after, of_type=dg.DagsterEventType.RUN_SUCCESS)
    assert log.get_latest_materialization_event(thing.key).run_id == after


def test_old_runs_and_events_of_no_run_are_forgotten_and_new_ones_are_not(log: dg.DagsterInstance):
    run_id, streamed = dg.materialize([thing], instance=log).run_id, dg.AssetKey("streamed")
    log.report_runless_asset_event(dg.AssetMaterialization(streamed))

    def kept():
        return len(log.get_runs()), len(log.fetch_materializations(streamed, 9).records)

    assert forget(log, datetime.now(UTC) - timedelta(days=1)) == 0
    assert kept() == (1, 1)
    assert forget(log, datetime.now(UTC) + timedelta(minutes=1)) >= 2
    assert kept() == (0, 0)
    assert log.get_run_by_id(run_id) is None
    assert log.all_logs(run_id) == []
