import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from platform_assets import definitions as platform
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT
from sensors.materialize_stale import (
    LONGEST_WAIT,
    REGISTRY_TABLES,
    SUMMARY_TABLES,
    TAG,
    WAIT,
    State,
    decide,
    incoming_labels,
    materialize_stale,
)
from sensors.stale_days import RunPlan
from tests.support.graph import settled

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
EARLY, LATE = (RunPlan("2026-11-10", "2026-11-12", (table,)) for table in ("silver/pages", "gold/rtb_hourly"))
ALL = {"unread": ("bronze/ad_events",), "input_plans": (EARLY,), "due": ("models/hate",), "decision_plans": (LATE,)}


def tables(**known):
    work, _ = decide(State(**known), NOW)
    return None if work is None else work.tables


def test_what_comes_first_is_made_first():
    assert tables(**ALL) == ("bronze/ad_events",)
    assert tables(input_plans=ALL["input_plans"], decision_plans=ALL["decision_plans"]) == ("silver/pages",)
    assert tables(due=ALL["due"], decision_plans=ALL["decision_plans"]) == ("models/hate", *REGISTRY_TABLES)
    assert tables(unrecorded=True, decision_plans=ALL["decision_plans"]) == REGISTRY_TABLES
    assert tables(decision_plans=ALL["decision_plans"]) == ("gold/rtb_hourly", *SUMMARY_TABLES)
    assert tables() is None


def test_what_the_last_days_will_make_due_is_trained_in_the_same_run():
    due = {"due": ("models/hate",)}
    assert tables(input_plans=(EARLY,), **due) == ("silver/pages", "models/hate", *REGISTRY_TABLES)
    assert tables(input_plans=(EARLY, EARLY), **due) == ("silver/pages",)


def test_labels_that_have_been_read_and_not_cleaned_are_counted(tmp_path):
    lake, day = Lakehouse(uri=str(tmp_path)), date(2026, 11, 10)

    def label(name, task, at=NOW):
        return pl.DataFrame([{"label_id": name, "task": task, "received_at": at, DAY: day}])

    work = RunPlan(str(day), str(day), ("silver/labels", "silver/embeddings"))
    old, fresh = datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(minutes=1)
    lake.insert_missing("bronze/review_labels", label("a", "hate", old), ["label_id"])
    assert incoming_labels(lake, (work,)) == {}
    lake.insert_missing("silver/labels", label("a", "hate", old), ["label_id"])
    lake.insert_missing("bronze/review_labels", label("b", "hate", fresh), ["label_id"])
    assert incoming_labels(lake, (work,)) == {"hate": 1}
    assert incoming_labels(lake, (EARLY,)) == incoming_labels(lake, ()) == {}


def test_a_run_in_flight_is_waited_for_and_named():
    work, why = decide(State(in_flight="4f2a", **ALL), NOW)
    assert work is None
    assert "4f2a" in why


def test_what_fails_is_tried_again_after_a_wait_that_doubles():
    waits = []
    for failures in range(1, 10):
        state = State(failures=failures, ended=NOW, **ALL)
        assert decide(state, NOW)[0] is None
        assert f"{failures} runs have failed" in decide(state, NOW)[1]
        waits.append(next(s for s in range(1, 4_000) if decide(state, NOW + timedelta(seconds=s))[0]))
    assert waits[0] == 2 * WAIT.total_seconds()
    assert waits[1] == 2 * waits[0]
    assert waits[-1] == LONGEST_WAIT.total_seconds()


def test_every_skip_says_why():
    said = decide(State(reasons=("hate: 12 new labels of 100",)), NOW)[1]
    assert "up to date" in said
    assert "12 new labels of 100" in said


@pytest.mark.slow
def test_ticks_bring_a_landed_file_to_the_reports_and_then_rest(home: Path, tmp_path: Path):
    folder = Path(shutil.copytree(home, tmp_path / "copied"))
    landing = tmp_path / "landing"
    shutil.copytree(PROJECT / "samples", landing)
    with settled(folder, landing=landing):
        definitions = platform.defs()
        repository, job = definitions.get_repository_def(), definitions.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.ephemeral() as instance:

            def tick():
                with dg.build_sensor_context(
                    instance=instance, repository_def=repository, resources=definitions.resources
                ) as context:
                    return materialize_stale(context)

            def carry_out(request):
                tags = {name: value for name, value in request.tags.items() if name.startswith("dagster/asset")}
                done = job.execute_in_process(instance=instance, asset_selection=request.asset_selection, tags=tags)
                assert done.success

            # A copied folder was written elsewhere: it is looked into once, and holds nothing new.
            looked = tick()
            assert {key.path[0] for key in looked.asset_selection} == {"bronze"}
            carry_out(looked)
            assert isinstance(tick(), dg.SkipReason)
            (landing / "messages" / "later.jsonl").write_text(
                '{"message_id": "later", "author_id": "u-1", "text": "late news", "sent_at": "2026-11-12T10:00:00Z"}\n'
            )
            asked = []
            while isinstance(request := tick(), dg.RunRequest):
                asked.append({key.to_user_string() for key in request.asset_selection})
                assert len(asked) < 6, asked
                assert request.tags.items() >= TAG.items()
                carry_out(request)
        assert asked[0] == {"bronze/social_messages"}
        assert "silver/messages" in asked[1]
        assert "reports/risk_analysis" in asked[-2]
        # Later days are compared with the one that has changed.
        assert asked[-1] == {"reports/model_monitoring", *SUMMARY_TABLES}
        signals = Lakehouse(uri=str(folder / "lake")).read("silver/message_signals", ["2026-11-12"])
        assert "later" in signals["message_id"].to_list()
