import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from governance.gates.promotion import Verdict
from resources.registry import lock
from resources.registry.database import client
from resources.registry.models import (
    ChampionMovedError,
    ModelMissingError,
    NotPassedError,
    Registry,
    TamperedModelError,
    promotion_log,
    registry,
)
from resources.settings import load_settings
from signals.models.heads import LinearHead, directory_digest
from signals.models.transform import TransformMismatchError
from signals.traffic import Traffic

TASK = "sentiment"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("mlflow")
    return Registry(tracking_uri=f"sqlite:///{root}/db/mlflow.db", artifacts=f"{root}/art", cache=f"{root}/cache")


@pytest.fixture
def elsewhere(store, tmp_path):
    """The same registry as another machine sees it, which has fetched nothing yet."""
    return replace(store, cache=str(tmp_path / "cache"))


def trained(folder: Path, seed: int) -> Path:
    folder.mkdir()
    chance = np.random.default_rng(seed)
    LinearHead(
        labels=("negative", "positive"),
        vector_weights=chance.random((384, 2), dtype=np.float32),
        ngram_weights=chance.random((16, 2), dtype=np.float32),
        bias=np.zeros(2, np.float32),
    ).save(folder, task=TASK, transform_id="t1")
    return folder


def register(store: Registry, folder: Path, seed: int = 1, task: str = TASK, **metrics: float):
    return store.register(
        task, trained(folder / f"{task}-{seed}", seed), metrics or {"macro_f1": 0.7}, {"transform_id": "t1"}
    )


def judged(store: Registry, folder: Path, seed: int = 1, task: str = TASK, against: int | None = None, **said: bool):
    """Register a version that the gate has seen."""
    made = register(store, folder, seed, task)
    store.judge(made, Verdict(said.get("passed", True), "as it was measured", against))
    return made


def test_what_was_registered_is_known_and_its_files_come_back_as_they_were(store, elsewhere, tmp_path):
    folder = trained(tmp_path / "trained", 1)
    metrics = {"macro_f1": 0.71, "f1|Books & Literature": 0.5, "rows": 120.0}
    made = store.register("emotion", folder, metrics, {"transform_id": "t1", "labels_version": 7})
    (found,) = elsewhere.versions("emotion")
    assert found == made
    assert (found.name, found.version, found.transform_id, found.champion) == ("dev.emotion", 1, "t1", False)
    assert found.metrics == metrics
    assert found.record["labels_version"] == "7"
    assert found.digest == directory_digest(folder)
    assert datetime.now(UTC) - found.trained_at < timedelta(minutes=5)
    loaded = elsewhere.load(found, "t1")
    assert (loaded.task.name, loaded.name, loaded.version) == (TASK, "dev.emotion", 1)
    assert (loaded.digest, loaded.transform_id) == (found.digest, "t1")
    assert loaded.scorer.labels == ("negative", "positive")
    assert np.array_equal(loaded.scorer.vector_weights, np.random.default_rng(1).random((384, 2), dtype=np.float32))


def test_files_are_fetched_once(store, elsewhere, tmp_path):
    made = register(store, tmp_path, task="once")
    assert elsewhere.load(made, "t1").digest == made.digest
    shutil.rmtree(stored_at(store, "once"))
    assert elsewhere.load(made, "t1").digest == made.digest


def test_a_model_of_another_transformation_is_refused_with_both_named_and_not_even_fetched(store, elsewhere, tmp_path):
    made = register(store, tmp_path, task="drifted")
    with pytest.raises(TransformMismatchError, match=r"drifted version 1 .* t1, but t2 "):
        elsewhere.load(made, "t2")
    assert not Path(elsewhere.cache).exists()


def test_several_that_fetch_a_version_at_once_all_get_it(store, elsewhere, tmp_path):
    made = register(store, tmp_path, task="rush")
    with ThreadPoolExecutor(6) as pool:
        loaded = list(pool.map(lambda _: elsewhere.load(made, "t1"), range(6)))
    assert [model.digest for model in loaded] == [made.digest] * 6
    assert len(list(Path(elsewhere.cache, "dev.rush").iterdir())) == 1


def test_versions_are_listed_newest_first_each_with_its_own_figures(store, tmp_path):
    for seed in range(1, 12):
        register(store, tmp_path, seed, task="many", macro_f1=seed / 100)
    found = store.versions("many")
    assert [version.version for version in found] == list(range(11, 0, -1))
    assert [version.metrics["macro_f1"] for version in found] == [number / 100 for number in range(11, 0, -1)]
    assert len({version.digest for version in found}) == 11
    assert store.version("many", 3).metrics == {"macro_f1": 0.03}


@pytest.mark.parametrize("every_encoder", [True, False])
def test_versions_of_all_tasks_are_those_of_each(store, tmp_path, every_encoder):
    here = store.for_environment(f"own-{every_encoder}")
    register(store, tmp_path, 1, task="irony")
    register(here, tmp_path, 2, task="irony")
    encoder = judged(here, tmp_path, 3, "encoder")
    here.promote("encoder", encoder.version, by="ada", why="tested")
    under = here.for_encoder(encoder.digest)
    for seed in (4, 5):
        made = judged(under, tmp_path, seed, "irony")
        under.promote("irony", made.version, by="ada", why="tested")
    for known in (here, under):
        found = known.versions_by_task(every_encoder=every_encoder)
        assert found["irony"]
        assert found["encoder"]
        assert found == {task: known.versions(task, every_encoder=every_encoder) for task in found}


def test_a_task_without_models_has_no_versions_and_no_champion(store, tmp_path):
    assert store.versions("nothing") == []
    with pytest.raises(ModelMissingError, match="nothing"):
        store.champion("nothing")
    register(store, tmp_path, task="unpromoted")
    with pytest.raises(ModelMissingError, match="materialise models/unpromoted"):
        store.champion("unpromoted")
    with pytest.raises(ModelMissingError, match="version 2"):
        store.version("unpromoted", 2)


def test_a_promotion_moves_the_champion_and_is_recorded(store, tmp_path):
    for seed in (1, 2):
        judged(store, tmp_path, seed, task="moves")
    store.promote("moves", 1, by="gate", why="first of its task")
    assert store.champion("moves").version == 1
    store.promote("moves", 2, by="ada", why="better on 'sarcasm'")
    assert store.champion("moves").version == 2
    assert [version.champion for version in store.versions("moves")] == [True, False]
    move = store.champion("moves").promoted
    assert (move.action, move.version, move.before, move.by, move.why) == (
        "promotion", 2, 1, "ada", "better on 'sarcasm'",
    )  # fmt: skip
    assert move.at.tzinfo is not None
    assert store.version("moves", 1).promoted.by == "gate"
    store.promote("moves", 2, by="ada", why="again")
    assert [one.version for one in promotion_log(store.versions("moves"))] == [1, 2]


def test_a_promotion_copies_nothing_and_retrains_nothing(store, elsewhere, tmp_path):
    made = judged(store, tmp_path, task="same")
    store.promote("same", 1, by="gate", why="first")
    champion = store.champion("same")
    assert champion.digest == made.digest
    assert elsewhere.load(champion, "t1").digest == made.digest
    assert len(store.versions("same")) == 1


@pytest.mark.parametrize("task", ["lonely", "unheard-of"])
def test_a_version_that_does_not_exist_cannot_be_promoted(store, tmp_path, task):
    if task == "lonely":
        register(store, tmp_path, task=task)
    with pytest.raises(ModelMissingError, match=f"{task} has no version 9 in dev"):
        store.promote(task, 9, by="ada", why="a slip")
    with pytest.raises(ModelMissingError):
        store.champion(task)


def stored_at(store: Registry, task: str) -> Path:
    (found,) = Path(store.artifacts, f"dev.{task}").glob("*/artifacts/model")
    return found


def change(folder: Path) -> None:
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)


def add(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")


def remove(folder: Path) -> None:
    (folder / "model.json").unlink()


def swap(folder: Path) -> None:
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(described | {"labels": described["labels"][::-1]}))


@pytest.mark.parametrize("tamper", [change, add, remove, swap])
def test_files_that_were_changed_in_the_store_are_refused_and_not_kept(store, elsewhere, tmp_path, tamper):
    task = f"store-{tamper.__name__}"
    made = register(store, tmp_path, task=task)
    tamper(stored_at(store, task))
    for _ in range(2):
        with pytest.raises(TamperedModelError, match=f"{task} version 1"):
            elsewhere.load(made, "t1")
    assert list(Path(elsewhere.cache, f"dev.{task}").iterdir()) == []


@pytest.mark.parametrize("tamper", [change, add, remove, swap])
def test_files_that_were_changed_after_they_were_fetched_are_refused(store, elsewhere, tmp_path, tamper):
    task = f"cache-{tamper.__name__}"
    made = register(store, tmp_path, task=task)
    elsewhere.load(made, "t1")
    (fetched,) = Path(elsewhere.cache, f"dev.{task}").iterdir()
    tamper(fetched)
    with pytest.raises(TamperedModelError, match=made.digest[:16]):
        elsewhere.load(made, "t1")


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_a_pickle_among_the_files_is_never_loaded(store, elsewhere, tmp_path):
    folder = trained(tmp_path / "trained", 1)
    mark = tmp_path / "exploded"
    (folder / "weights.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Bomb(mark)))
    made = store.register("pickled", folder, {"macro_f1": 0.7}, {"transform_id": "t1"})
    with pytest.raises(SafetensorError):
        elsewhere.load(made, "t1")
    assert not mark.exists()
    pickle.loads((folder / "python_model.pkl").read_bytes())
    assert mark.exists()


def test_only_files_of_data_are_registered_for_a_head(store, tmp_path):
    register(store, tmp_path, task="data")
    assert {path.name for path in stored_at(store, "data").rglob("*")} == {"model.json", "weights.safetensors"}


def test_the_registry_is_the_one_that_the_settings_name(tmp_path):
    found = registry(
        load_settings(
            mlflow_tracking_uri="sqlite:///x.db", mlflow_artifacts="s3://b/art", model_cache=tmp_path,
            environment="prod", lakehouse_uri="s3://b/prod",
        )
    )  # fmt: skip
    assert (found.tracking_uri, found.artifacts, found.cache) == ("sqlite:///x.db", "s3://b/art", str(tmp_path))
    assert found.environment == "prod"


@pytest.mark.parametrize("passed", [None, False], ids=["unjudged", "failed"])
def test_what_has_not_passed_the_gate_is_made_champion_by_no_way(store, tmp_path, passed):
    task = f"refused-{passed}"
    judged(store, tmp_path, 1, task)
    store.promote(task, 1, by="gate", why="first")
    if passed is None:
        register(store, tmp_path, 2, task)
    else:
        judged(store, tmp_path, 2, task, passed=False)
    for way in (
        lambda: store.promote(task, 2, by="ada", why="please"),
        lambda: store.rollback(task, 2, by="ada", why="please"),
        lambda: store.give_traffic(task, 2, 0.1, by="ada", why="please"),
        lambda: store.copy_to(store.for_environment("prod"), store.version(task, 2)),
    ):
        with pytest.raises(NotPassedError, match=f"dev.{task} version 2 has not "):
            way()
    assert store.champion(task).version == 1
    assert store.for_environment("prod").versions(task) == []
    assert len(promotion_log(store.versions(task))) == 1


def test_a_challenger_is_not_promoted_over_a_champion_that_it_was_not_compared_with(store, tmp_path):
    judged(store, tmp_path, 1, "overtaken")
    store.promote("overtaken", 1, by="gate", why="first", unless_moved=True)
    for seed in (2, 3):
        judged(store, tmp_path, seed, "overtaken", against=1)
    store.promote("overtaken", 2, by="gate", why="better", unless_moved=True)
    with pytest.raises(ChampionMovedError, match="compared with version 1, but version 2 is champion now"):
        store.promote("overtaken", 3, by="gate", why="better", unless_moved=True)
    assert store.champion("overtaken").version == 2


def test_of_several_that_promote_at_once_one_does(store, tmp_path):
    judged(store, tmp_path, 1, "race")
    store.promote("race", 1, by="gate", why="first")
    for seed in range(2, 6):
        judged(store, tmp_path, seed, "race", against=1)

    def promote(version):
        try:
            store.promote("race", version, by="gate", why="better", unless_moved=True)
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
        moved = pool.submit(store.promote, "shared", 1, by="ada", why="first")
        with pytest.raises(TimeoutError):
            moved.result(timeout=1)
        assert store.versions("shared")[0].moves == ()
        held.set_registered_model_tag("lock.dev.shared.7", lock.RELEASED, "yes")
        moved.result(timeout=60)
    assert store.champion("shared").version == 1
    held.create_registered_model("lock.dev.shared.9")
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.5)
    store.give_traffic("shared", None, 0.0, by="ada", why="enough")
    (kept,) = held.search_registered_models("name LIKE 'lock.dev.shared.%'")
    assert (kept.name, [*kept.tags]) == ("lock.dev.shared.10", [lock.RELEASED])


def test_who_holds_a_lock_for_too_long_moves_nothing(store, tmp_path, monkeypatch):
    judged(store, tmp_path, 1, "slow")
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.0)
    with pytest.raises(lock.LeaseLostError, match=r"the lock of dev\.slow was held for too long"):
        store.promote("slow", 1, by="ada", why="first")
    assert promotion_log(store.versions("slow")) == []
    assert [one.champion for one in store.versions("slow")] == [False]


def test_a_rollback_goes_back_step_by_step_and_is_recorded(store, tmp_path):
    for seed in (1, 2, 3):
        judged(store, tmp_path, seed, "back")
        store.promote("back", seed, by="gate", why=f"number {seed}")
    with pytest.raises(ModelMissingError, match="no champion"):
        store.before("unheard-of")
    for target in (2, 1):
        assert store.before("back") == target
        assert store.rollback("back", store.before("back"), by="ada", why="complaints") == target + 1
        assert store.champion("back").version == target
    with pytest.raises(ModelMissingError, match="no champion before version 1"):
        store.before("back")
    told = [(move.action, move.version, move.before, move.by) for move in promotion_log(store.versions("back"))]
    assert told[3:] == [("rollback", 2, 3, "ada"), ("rollback", 1, 2, "ada")]
    assert store.version("back", 3).promoted.action == "promotion"


def test_traffic_is_given_recorded_and_ends_with_the_champion(store, tmp_path):
    for seed in (1, 2, 3):
        judged(store, tmp_path, seed, "tried")
    store.promote("tried", 1, by="gate", why="first")
    assert store.traffic()["tried"] == Traffic(1)
    store.give_traffic("tried", 2, 0.25, by="ada", why="a trial")
    assert store.traffic()["tried"] == Traffic(1, 2, 0.25)
    assert [one.share for one in store.versions("tried")] == [None, 0.25, None]
    store.give_traffic("tried", 3, 0.0, by="ada", why="in shadow")
    assert store.traffic()["tried"] == Traffic(1, 3, 0.0)
    store.give_traffic("tried", None, 0.0, by="ada", why="enough")
    store.give_traffic("tried", None, 0.0, by="ada", why="enough")
    assert store.traffic()["tried"] == Traffic(1)
    store.give_traffic("tried", 2, 0.5, by="ada", why="once more")
    store.promote("tried", 2, by="ada", why="it did well")
    assert store.traffic()["tried"] == Traffic(2)
    with pytest.raises(NotPassedError, match="is the champion"):
        store.give_traffic("tried", 2, 0.5, by="ada", why="a slip")
    shares = [move.share for move in promotion_log(store.versions("tried")) if move.action == "traffic"]
    assert shares == [0.25, 0.0, None, 0.5]


def test_a_version_is_copied_to_another_environment_with_the_tested_bytes_once(store, elsewhere, tmp_path):
    made = judged(store, tmp_path, 1, "carried")
    made = store.version("carried", made.version)
    prod = store.for_environment("prod")
    copy = store.copy_to(prod, made)
    assert store.copy_to(prod, made) == copy
    assert (copy.name, copy.version, copy.digest, copy.metrics) == ("prod.carried", 1, made.digest, made.metrics)
    assert copy.verdict == made.verdict
    assert copy.record["copied_from"] == "dev.carried/1"
    prod.promote("carried", 1, by="ada", why="tested")
    assert "carried" not in store.traffic()
    assert prod.traffic()["carried"] == Traffic(1)
    shutil.rmtree(Path(store.artifacts, "dev.carried"))
    loaded = elsewhere.for_environment("prod").load(prod.champion("carried"), "t1")
    assert loaded.digest == directory_digest(tmp_path / "carried-1")


def test_files_that_were_changed_are_not_copied(store, tmp_path):
    judged(store, tmp_path, 1, "changed")
    change(stored_at(store, "changed"))
    with pytest.raises(TamperedModelError):
        store.copy_to(store.for_environment("prod"), store.version("changed", 1))
    assert store.for_environment("prod").versions("changed") == []
