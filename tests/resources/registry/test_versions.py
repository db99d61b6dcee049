from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from governance.gates.promotion import Verdict
from governance.promotion_log import PromotionEvent
from resources.registry.errors import NotPassedError
from resources.registry.versions import EVENT, VERDICT, ModelVersion, alias, promotion_log, traffic_of, training_tags
from signals.traffic import Traffic

START = datetime(2026, 11, 10, tzinfo=UTC)
ENCODER = "e" * 64
PASSED = Verdict(passed=True, why="as it was measured")


def event(minute, action, version, before=None):
    return PromotionEvent(START + timedelta(minutes=minute), action, version, before, "ada", "why")


def version(number=1, *, verdict=None, events=(), aliases=None, name="dev.irony", under=""):
    """Read a version from tags and aliases as MLflow keeps them."""
    tags = training_tags("d1", under, {"f1|a & b": 0.5}, {"transform_id": "t1", "labels": 7})
    tags |= {f"{EVENT}{one.at:%Y-%m-%dT%H:%M:%S.%f}": one.dump() for one in events}
    tags |= {} if verdict is None else {VERDICT: verdict.dump()}
    kept = SimpleNamespace(name=name, version=str(number), tags=tags, creation_timestamp=int(START.timestamp() * 1000))
    return ModelVersion.read(kept, model(aliases or {}), under)


def model(aliases):
    return SimpleNamespace(
        aliases=aliases, tags={"challenger_share": "0.25", alias("challenger_share", ENCODER): "0.0"}
    )


def test_what_is_kept_in_tags_is_read_back():
    made = version(verdict=PASSED, events=[event(0, "promotion", 1)])
    assert str(made) == "dev.irony version 1"
    assert (made.task, made.digest, made.transform_id, made.trained_at) == ("irony", "d1", "t1", START)
    assert (made.metrics, made.verdict) == ({"f1|a & b": 0.5}, PASSED)
    assert made.record == {"transform_id": "t1", "labels": "7", "encoder": ""}
    assert made.events == (event(0, "promotion", 1),)
    assert made.reference is None


def test_aliases_say_which_version_answers_under_each_encoder():
    aliases = {"champion": "1", "challenger": "2", alias("champion", ENCODER): "2"}
    assert [(one.champion, one.share) for one in (version(n, aliases=aliases) for n in (1, 2, 3))] == [
        (True, None), (False, 0.25), (False, None),
    ]  # fmt: skip
    assert version(2, aliases=aliases, under=ENCODER).champion
    assert version(1, aliases=aliases, name="dev.encoder", under=ENCODER).champion, "the encoder is under none"
    assert traffic_of(model(aliases), "") == Traffic(1, 2, 0.25)
    assert traffic_of(model(aliases), ENCODER) == Traffic(2)
    assert traffic_of(model({"challenger": "2"}), "") is None


def test_the_event_that_made_it_champion_is_its_own_last_and_no_traffic():
    events = [event(0, "promotion", 1), event(1, "traffic", 1, 2), event(2, "rollback", 0, 1)]
    assert version(events=events).promoted == events[0]
    assert version(events=events[1:]).promoted is None
    later = version(2, events=[event(3, "promotion", 2, 1)])
    assert [one.version for one in promotion_log([later, version(events=events)])] == [1, 1, 0, 2]


@pytest.mark.parametrize(
    ("verdict", "events", "settled"),
    [
        (None, (), False),
        (PASSED, (), False),
        (PASSED, [event(0, "promotion", 1)], True),
        (Verdict(passed=False, why="worse"), (), True),
    ],
    ids=["unjudged", "not promoted", "promoted", "refused"],
)
def test_a_training_is_settled_once_it_is_promoted_or_refused(verdict, events, settled):
    assert version(verdict=verdict, events=events).settled == settled


def test_what_has_not_passed_the_gate_says_so():
    with pytest.raises(NotPassedError, match=r"dev.irony version 1 has not been through the gate: materialise models/"):
        version().require_passed()
    with pytest.raises(NotPassedError, match=r"dev.irony version 1 has not passed the gate: worse"):
        version(verdict=Verdict(passed=False, why="worse")).require_passed()
    assert version(verdict=PASSED).require_passed() == PASSED
