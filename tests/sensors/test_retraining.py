from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.gates.promotion import Verdict
from platform_assets.operations import drift
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from sensors.retraining import COOL_DOWN, MIN_DRIFTED, WINDOWS, State, Training, Window, decide, threshold, verdicts
from signals.tasks import TASKS, Task

TASK = Task("toy", ("no", "yes"), ("page",), "macro_f1", 0.5, retrain_after=100)
RUNNING, OTHER = "a" * 16, "b" * 16
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=3)


def training(labels, transform=RUNNING, rows=10_000, at=LONG_AGO, *, settled=True, erased=False):
    return Training(labels, rows, transform, at, settled, erased)


def state(labels, champion=None, latest=None, **more):
    return State(TASK, RUNNING, labels, champion, latest or champion, **more)


@pytest.mark.parametrize(
    ("known", "starts", "why"),
    [
        (state(0), False, "no labels"),
        (state(0, training(500, OTHER)), False, "no labels"),
        (state(50), True, "no champion yet, 50 labels"),
        (state(50, latest=training(50)), False, "nothing new since the last training on 50 labels"),
        (state(51, latest=training(50)), True, "no champion yet, 51 labels"),
        (state(500, training(500)), False, "nothing new since the last training on 500 labels"),
        (state(599, training(500)), False, "99 new labels of 100, drift in 0 of 0 windows"),
        (state(600, training(500)), True, "100 new labels of 100"),
        (state(900, training(500)), True, "400 new labels of 100"),
        (state(600, training(500), training(600)), False, "nothing new since the last training on 600 labels"),
        (state(699, training(500), training(600)), False, "99 new labels of 100, drift in 0 of 0 windows"),
        (state(400, training(500)), False, "-100 new labels of 100, drift in 0 of 0 windows"),
        (state(500, training(500, OTHER)), True, f"champion is of transform_id {OTHER}, {RUNNING} is running"),
        (
            state(500, training(500, OTHER), training(500)),
            False,
            "nothing new since the last training on 500 labels",
        ),
        (state(490, training(500, erased=True)), True, "rows that the champion was trained on are erased"),
        (
            state(490, training(500, erased=True), training(495, erased=True)),
            True,
            "rows that the champion was trained on are erased",
        ),
        # The gate has refused what was trained since: nothing is trained again and again.
        (
            state(490, training(500, erased=True), training(490)),
            False,
            "nothing new since the last training on 490 labels",
        ),
        (state(0, training(500, erased=True)), False, "no labels"),
        (state(900, training(500), in_flight="4f2a"), False, "run 4f2a trains it now"),
        (
            state(500, training(500), training(500, settled=False)),
            True,
            "the last training, on 500 labels, was neither judged nor promoted",
        ),
        (
            state(900, training(500), training(500, at=NOW - timedelta(seconds=20))),
            False,
            "it has just been trained: the next training may start in 40 s",
        ),
        (state(560, training(500, rows=300)), True, "60 new labels of 60"),
        (state(559, training(500, rows=300)), False, "59 new labels of 60, drift in 0 of 0 windows"),
        (state(599, training(500, rows=0)), False, "99 new labels of 100, drift in 0 of 0 windows"),
    ],
)
def test_a_training_starts_for_new_labels_or_a_champion_that_cannot_serve(known, starts, why):
    assert decide(known, NOW) == (starts, f"toy: {why}")


def windows(*drifted, until=NOW):
    return tuple(Window(until - timedelta(hours=len(drifted) - i - 1), drifts) for i, drifts in enumerate(drifted))


@pytest.mark.parametrize(
    ("drifted", "starts"),
    [
        ((), False),
        ((True,) * WINDOWS, True),
        ((False, False, True, True, True), True),
        ((True, True, True, False, False), False),
        ((True, True, True, True, False), False),
        ((False, True, False, True, True), True),
        ((False, False, False, True, True), False),
        ((True, True, True, False, False, False, False, True), False),
    ],
    ids=str,
)
def test_drift_in_most_windows_and_the_latest_starts_a_training_if_there_is_anything_to_learn(drifted, starts):
    known = state(501, training(500), windows=windows(*drifted))
    needed, why = decide(known, NOW)
    assert needed == starts
    assert f"drift in {sum(drifted[-WINDOWS:])} of {min(len(drifted), WINDOWS)} windows" in why
    assert not decide(replace(known, labels=500), NOW)[0]


def test_drift_that_goes_on_starts_one_training_a_window():
    drift = windows(*(True,) * MIN_DRIFTED, until=NOW - timedelta(minutes=30))
    after = training(501, at=NOW - timedelta(minutes=20))
    assert not decide(state(502, training(500), after, windows=drift), NOW)[0]
    later = (*drift, Window(NOW, drifted=True))
    assert decide(state(502, training(500), after, windows=later), NOW + COOL_DOWN)[0]


@pytest.mark.parametrize(("rows", "enough"), [(0, 100), (1, 1), (10, 2), (499, 100), (500, 100), (90_000, 100)])
def test_the_threshold_is_the_tasks_or_a_share_of_what_the_champion_has_seen(rows, enough):
    assert threshold(TASK, training(5, rows=rows)) == enough


TRAININGS = st.builds(
    Training,
    st.integers(0, 700),
    st.integers(0, 5_000),
    st.sampled_from([RUNNING, OTHER]),
    st.timedeltas(timedelta(), timedelta(days=2)).map(lambda ago: NOW - ago),
    st.booleans(),
)
STATES = st.builds(
    State,
    st.just(TASK),
    st.just(RUNNING),
    st.integers(0, 900),
    st.none() | TRAININGS,
    st.none() | TRAININGS,
    st.lists(st.booleans(), max_size=8).map(lambda drifted: windows(*drifted)),
    st.none() | st.just("4f2a"),
)


@settings(max_examples=200)
@given(STATES, st.timedeltas(timedelta(), timedelta(days=1)))
def test_whatever_the_state_a_training_that_ends_leaves_nothing_to_do_and_nothing_is_trained_unseen(known, later):
    needed, why = decide(known, NOW)
    assert why.startswith("toy: ")
    assert not (needed and (known.in_flight or not known.labels))
    # The same question has the same answer, and whoever asks twice at once hears the same: what runs is then in flight.
    assert decide(known, NOW) == (needed, why)
    assert not decide(replace(known, in_flight="other"), NOW)[0]
    # A training of all that there is settles it, whether it is promoted or refused, until there is something new.
    done = Training(known.labels, 100, RUNNING, NOW)
    for champion in (done, known.champion):
        assert not decide(replace(known, champion=champion, latest=done, in_flight=None), NOW + later)[0]


@settings(max_examples=100)
@given(STATES)
def test_a_training_that_was_killed_is_done_again_after_the_cool_down(known):
    killed = Training(known.labels, 100, RUNNING, NOW, settled=False)
    known = replace(known, latest=killed, in_flight=None)
    assert not decide(known, NOW)[0]
    assert decide(known, NOW + COOL_DOWN)[0] == bool(known.labels)


@settings(max_examples=100)
@given(STATES, st.integers(0, 500))
def test_more_labels_never_stop_a_training(known, more):
    known = replace(known, champion=training(300), latest=training(300), in_flight=None, windows=())
    if decide(known, NOW)[0] and known.labels >= 300:
        assert decide(replace(known, labels=known.labels + more), NOW)[0]


@pytest.mark.slow
def test_an_unlabelled_lakehouse_and_an_empty_registry_have_verdicts(tmp_path, registry):
    found = verdicts(Lakehouse(uri=str(tmp_path / "lake")), registry, RUNNING, NOW)
    assert [(one.model, one.needed, one.served) for one in found] == [(f"models/{t}", False, False) for t in TASKS]


@pytest.mark.slow
def test_auxiliary_labels_count_for_the_task_that_learns_from_them(tmp_path, registry):
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    rows = pl.DataFrame({"label_id": list("abcd"), "task": ["hate", "hate_davidson", "hate_davidson", "sentiment"]})
    lake.replace_all("silver/labels", rows)
    found = verdicts(lake, registry, RUNNING, NOW, in_flight={"models/hate": "4f2a"})
    assert [one.why for one in found if "no labels" not in one.why] == [
        "hate: run 4f2a trains it now",
        "sentiment: no champion yet, 1 labels",
        "toxicity: no champion yet, 2 labels",
    ]


@pytest.fixture
def known(tmp_path, registry):
    """Return a function that gives the verdict on a task whose champion has seen 100 of its labels.

    It takes what the days up to today were found to be: drifted, not, or None where they could not be measured.
    """
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    record = {"transform_id": RUNNING, "labels": 100, "rows_train": 1_000}
    one = registry.register("irony", tmp_path / "model", {}, record)
    registry.judge(one, Verdict(passed=True, why="good"))
    promotion.promote(registry, "irony", one.version, by="test", why="test")
    now = registry.champion("irony").trained_at + timedelta(days=30)

    def verdict(*drifted, labels=103, version=1, answered=timedelta()):
        days = [now.date() - timedelta(days=len(drifted) - 1 - place) for place in range(len(drifted))]
        rows = [
            {DAY: day, "task": "irony", "model_version": version, "drifted": has, "answered_at": now - answered}
            for day, has in zip(days, drifted, strict=True)
        ]
        lake.replace_all(drift.TABLE, pl.DataFrame(rows, schema=drift.SCHEMA))
        lake.replace_all("silver/labels", pl.DataFrame({"task": ["irony"] * labels}))
        found = verdicts(lake, registry, RUNNING, now)
        return next((one.needed, one.why) for one in found if one.model == "models/irony")

    return verdict


@pytest.mark.slow
def test_days_of_drift_up_to_yesterday_start_a_training_for_few_labels(known):
    yes, no, unknown = True, False, None
    said = "irony: 3 new labels of 200, drift in {} of {} windows"
    assert known(no, yes, no, yes, yes, unknown) == (True, said.format(3, 5))
    assert known(yes, yes, no, yes, no, no) == (False, said.format(3, 5))
    assert known(yes, yes, no, no, no, yes, yes, yes) == (False, said.format(2, 5))
    # Today is not over, and a day that could not be measured says nothing.
    assert known(no, no, no, yes, yes, yes) == (False, said.format(2, 5))
    assert known(yes, unknown, yes, yes, unknown, no) == (True, said.format(3, 3))
    assert known() == (False, said.format(0, 0))


@pytest.mark.slow
def test_days_of_an_earlier_champion_or_without_new_labels_start_none(known):
    drifted = [True] * WINDOWS + [None]
    assert known(*drifted)[0]
    assert known(*drifted, version=2) == (False, "irony: 3 new labels of 200, drift in 0 of 0 windows")
    assert known(*drifted, labels=100) == (False, "irony: nothing new since the last training on 100 labels")
    # What was answered before the last training has had its training.
    assert not known(*drifted, answered=timedelta(days=31))[0]


@pytest.mark.slow
def test_labels_of_another_environment_do_not_count_for_a_champion_that_came_from_it(tmp_path, registry):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    made = registry.register(
        "irony", tmp_path / "model", {}, {"transform_id": RUNNING, "labels": 5_000, "rows_train": 900}
    )
    registry.judge(made, Verdict(passed=True, why="good"))
    prod = registry.for_environment(f"prod-{registry.environment}")
    copy = registry.copy_to(prod, registry.version("irony", made.version))
    promotion.promote(prod, "irony", copy.version, by="test", why="test")
    lake, now = Lakehouse(uri=str(tmp_path / "prod")), copy.trained_at + timedelta(days=1)

    def why(before, after):
        received = [copy.trained_at - timedelta(hours=1)] * before + [copy.trained_at + timedelta(hours=1)] * after
        lake.replace_all("silver/labels", pl.DataFrame({"task": "irony", "received_at": received}))
        return next((one.needed, one.why) for one in verdicts(lake, prod, RUNNING, now) if one.model == "models/irony")

    assert why(300, 0) == (False, "irony: nothing new since the last training on 300 labels")
    assert why(300, 179) == (False, "irony: 179 new labels of 180, drift in 0 of 0 windows")
    assert why(300, 180) == (True, "irony: 180 new labels of 180")
