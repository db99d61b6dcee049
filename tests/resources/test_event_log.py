from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.event_log import SqliteEventLogStorage

from resources.event_log import OPEN_FILES
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
