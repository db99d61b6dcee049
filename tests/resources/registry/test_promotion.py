from concurrent.futures import ThreadPoolExecutor

import pytest

from governance.transform_comparisons import Comparisons
from resources.registry import lock, promotion
from resources.registry.database import client
from resources.registry.errors import ChampionMovedError, ModelMissingError, NotPassedError
from resources.registry.versions import promotion_log
from signals.traffic import Traffic
from tests.resources.registry.conftest import judged, register

pytestmark = pytest.mark.slow


def test_a_promotion_moves_the_champion_and_is_recorded(store, tmp_path):
    for seed in (1, 2):
        judged(store, tmp_path, seed, task="moves")
    promotion.promote(store, "moves", 1, by="gate", why="first of its task")
    assert store.champion("moves").version == 1
    promotion.promote(store, "moves", 2, by="ada", why="better on 'sarcasm'")
    assert store.champion("moves").version == 2
    assert [version.champion for version in store.versions("moves")] == [True, False]
    event = store.champion("moves").promoted
    assert (event.action, event.version, event.before, event.by, event.why) == (
        "promotion", 2, 1, "ada", "better on 'sarcasm'",
    )  # fmt: skip
    assert event.at.tzinfo is not None
    assert store.version("moves", 1).promoted.by == "gate"
    promotion.promote(store, "moves", 2, by="ada", why="again")
    assert [one.version for one in promotion_log(store.versions("moves"))] == [1, 2]


def test_a_promotion_copies_nothing_and_retrains_nothing(store, elsewhere, tmp_path):
    made = judged(store, tmp_path, task="same")
    promotion.promote(store, "same", 1, by="gate", why="first")
    champion = store.champion("same")
    assert champion.digest == made.digest
    assert elsewhere.load(champion, "t1", Comparisons()).digest == made.digest
    assert len(store.versions("same")) == 1


@pytest.mark.parametrize("task", ["lonely", "unheard-of"])
def test_a_version_that_does_not_exist_cannot_be_promoted(store, tmp_path, task):
    if task == "lonely":
        register(store, tmp_path, task=task)
    with pytest.raises(ModelMissingError, match=f"{task} has no version 9 in dev"):
        promotion.promote(store, task, 9, by="ada", why="a slip")
    with pytest.raises(ModelMissingError):
        store.champion(task)


@pytest.mark.parametrize("passed", [None, False], ids=["unjudged", "failed"])
def test_what_has_not_passed_the_gate_is_made_champion_by_no_way(store, tmp_path, passed):
    task = f"refused-{passed}"
    judged(store, tmp_path, 1, task)
    promotion.promote(store, task, 1, by="gate", why="first")
    if passed is None:
        register(store, tmp_path, 2, task)
    else:
        judged(store, tmp_path, 2, task, passed=False)
    for way in (
        lambda: promotion.promote(store, task, 2, by="ada", why="please"),
        lambda: promotion.roll_back(store, task, 2, by="ada", why="please"),
        lambda: promotion.set_traffic(store, task, 2, 0.1, by="ada", why="please"),
        lambda: store.copy_to(store.for_environment("prod"), store.version(task, 2)),
    ):
        with pytest.raises(NotPassedError, match=f"dev.{task} version 2 has not "):
            way()
    assert store.champion(task).version == 1
    assert store.for_environment("prod").versions(task) == []
    assert len(promotion_log(store.versions(task))) == 1


def test_a_challenger_is_not_promoted_over_a_champion_that_it_was_not_compared_with(store, tmp_path):
    judged(store, tmp_path, 1, "overtaken")
    promotion.promote(store, "overtaken", 1, by="gate", why="first", automatic=True)
    for seed in (2, 3):
        judged(store, tmp_path, seed, "overtaken", against=1)
    promotion.promote(store, "overtaken", 2, by="gate", why="better", automatic=True)
    with pytest.raises(ChampionMovedError, match="compared with version 1, but version 2 is champion now"):
        promotion.promote(store, "overtaken", 3, by="gate", why="better", automatic=True)
    assert store.champion("overtaken").version == 2


def test_of_several_that_promote_at_once_one_does(store, tmp_path):
    judged(store, tmp_path, 1, "race")
    promotion.promote(store, "race", 1, by="gate", why="first")
    for seed in range(2, 6):
        judged(store, tmp_path, seed, "race", against=1)

    def promote(version):
        try:
            promotion.promote(store, "race", version, by="gate", why="better", automatic=True)
        except ChampionMovedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(promote, range(2, 6))).count(True) == 1
    assert len(promotion_log(store.versions("race"))) == 2


def test_another_machine_is_waited_for_unless_it_was_killed(store, tmp_path, monkeypatch):
    judged(store, tmp_path, 1, "shared")
    held = client(store.tracking_uri)
    held.create_registered_model("lock.dev.shared.7")
    with ThreadPoolExecutor(1) as pool:
        moved = pool.submit(promotion.promote, store, "shared", 1, by="ada", why="first")
        with pytest.raises(TimeoutError):
            moved.result(timeout=1)
        assert store.versions("shared")[0].events == ()
        held.set_registered_model_tag("lock.dev.shared.7", lock.RELEASED, "yes")
        moved.result(timeout=60)
    assert store.champion("shared").version == 1
    held.create_registered_model("lock.dev.shared.9")
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.5)
    promotion.set_traffic(store, "shared", None, 0.0, by="ada", why="enough")
    (kept,) = held.search_registered_models("name LIKE 'lock.dev.shared.%'")
    assert (kept.name, [*kept.tags]) == ("lock.dev.shared.10", [lock.RELEASED])


def test_who_holds_a_lock_for_too_long_moves_nothing(store, tmp_path, monkeypatch):
    judged(store, tmp_path, 1, "slow")
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.0)
    with pytest.raises(lock.LeaseLostError, match=r"the lock of dev\.slow was held for too long"):
        promotion.promote(store, "slow", 1, by="ada", why="first")
    assert promotion_log(store.versions("slow")) == []
    assert [one.champion for one in store.versions("slow")] == [False]


def test_a_rollback_goes_back_step_by_step_and_is_recorded(store, tmp_path):
    for seed in (1, 2, 3):
        judged(store, tmp_path, seed, "back")
        promotion.promote(store, "back", seed, by="gate", why=f"number {seed}")
    with pytest.raises(ModelMissingError, match="no champion"):
        promotion.previous_champion(store, "unheard-of")
    for target in (2, 1):
        assert promotion.previous_champion(store, "back") == target
        assert promotion.roll_back(store, "back", target, by="ada", why="complaints") == target + 1
        assert store.champion("back").version == target
    with pytest.raises(ModelMissingError, match="no champion before version 1"):
        promotion.previous_champion(store, "back")
    events = [(event.action, event.version, event.before, event.by) for event in promotion_log(store.versions("back"))]
    assert events[3:] == [("rollback", 2, 3, "ada"), ("rollback", 1, 2, "ada")]
    assert store.version("back", 3).promoted.action == "promotion"


def test_traffic_is_given_recorded_and_ends_with_the_champion(store, tmp_path):
    for seed in (1, 2, 3):
        judged(store, tmp_path, seed, "tried")
    promotion.promote(store, "tried", 1, by="gate", why="first")
    assert store.traffic()["tried"] == Traffic(1)
    promotion.set_traffic(store, "tried", 2, 0.25, by="ada", why="a trial")
    assert store.traffic()["tried"] == Traffic(1, 2, 0.25)
    assert [one.share for one in store.versions("tried")] == [None, 0.25, None]
    promotion.set_traffic(store, "tried", 3, 0.0, by="ada", why="in shadow")
    assert store.traffic()["tried"] == Traffic(1, 3, 0.0)
    promotion.set_traffic(store, "tried", None, 0.0, by="ada", why="enough")
    promotion.set_traffic(store, "tried", None, 0.0, by="ada", why="enough")
    assert store.traffic()["tried"] == Traffic(1)
    promotion.set_traffic(store, "tried", 2, 0.5, by="ada", why="once more")
    promotion.promote(store, "tried", 2, by="ada", why="it did well")
    assert store.traffic()["tried"] == Traffic(2)
    with pytest.raises(NotPassedError, match="is the champion"):
        promotion.set_traffic(store, "tried", 2, 0.5, by="ada", why="a slip")
    shares = [event.share for event in promotion_log(store.versions("tried")) if event.action == "traffic"]
    assert shares == [0.25, 0.0, None, 0.5]
