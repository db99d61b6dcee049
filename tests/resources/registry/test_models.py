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

from governance.gates.promotion import Figure, Verdict
from governance.transform_comparisons import Comparisons
from resources.registry import promotion
from resources.registry.errors import ModelMissingError, TamperedModelError
from resources.registry.models import Registry, registry
from resources.registry.versions import SIGNATURE
from resources.settings import load_settings
from signals.models.heads import directory_digest
from signals.models.transform import TransformMismatchError
from signals.traffic import Traffic
from tests.resources.registry.conftest import TASK, judged, register, trained

pytestmark = pytest.mark.slow


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
    loaded = elsewhere.load(found, "t1", Comparisons())
    assert (loaded.task.name, loaded.name, loaded.version) == (TASK, "dev.emotion", 1)
    assert (loaded.digest, loaded.transform_id) == (found.digest, "t1")
    assert loaded.scorer.labels == ("negative", "positive")
    assert np.array_equal(loaded.scorer.vector_weights, np.random.default_rng(1).random((384, 2), dtype=np.float32))


def test_a_version_is_marked_once_whose_training_rows_were_erased(store, elsewhere, tmp_path):
    made, noted = register(store, tmp_path, task="taught"), datetime(2026, 11, 10, tzinfo=UTC)
    assert made.erased_at is None
    for now in (noted, noted + timedelta(days=1)):
        store.mark_erased(store.version("taught", made.version), now)
    (found,) = elsewhere.versions("taught")
    assert (found.erased_at, found.digest) == (noted, made.digest)


def test_files_are_fetched_once(store, elsewhere, tmp_path):
    made = register(store, tmp_path, task="once")
    assert elsewhere.load(made, "t1", Comparisons()).digest == made.digest
    shutil.rmtree(stored_at(store, "once"))
    assert elsewhere.load(made, "t1", Comparisons()).digest == made.digest


def test_a_model_of_another_transformation_is_refused_with_both_named_and_not_even_fetched(store, elsewhere, tmp_path):
    made = register(store, tmp_path, task="drifted")
    with pytest.raises(TransformMismatchError, match=r"drifted version 1 .* t1, but t2 "):
        elsewhere.load(made, "t2", Comparisons())
    assert not Path(elsewhere.cache).exists()


def compared(task, *, passed=True):
    figures = (Figure("task", task, "same labels", 500, 1.0),)
    return Comparisons({("t1", "t2"): Verdict(passed, "as it was measured", figures=figures)})


def test_a_model_scores_under_another_transformation_once_both_are_recorded_to_answer_alike(store, tmp_path):
    made = register(store, tmp_path, seed=21)
    for recorded in (Comparisons(), compared(TASK, passed=False), compared("hate")):
        with pytest.raises(TransformMismatchError, match="t1, but t2"):
            store.load(made, "t2", recorded)
    with pytest.raises(TransformMismatchError, match="t1, but t3"):
        store.load(made, "t3", compared(TASK))
    model = store.load(made, "t2", compared(TASK))
    assert (model.digest, model.transform_id) == (made.digest, "t2")


def test_several_that_fetch_a_version_at_once_all_get_it(store, elsewhere, tmp_path):
    made = register(store, tmp_path, task="rush")
    with ThreadPoolExecutor(6) as pool:
        loaded = list(pool.map(lambda _: elsewhere.load(made, "t1", Comparisons()), range(6)))
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
    promotion.promote(here, "encoder", encoder.version, by="ada", why="tested")
    under = here.for_encoder(encoder.digest)
    for seed in (4, 5):
        made = judged(under, tmp_path, seed, "irony")
        promotion.promote(under, "irony", made.version, by="ada", why="tested")
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
            elsewhere.load(made, "t1", Comparisons())
    assert list(Path(elsewhere.cache, f"dev.{task}").iterdir()) == []


@pytest.mark.parametrize("tamper", [change, add, remove, swap])
def test_files_that_were_changed_after_they_were_fetched_are_refused(store, elsewhere, tmp_path, tamper):
    task = f"cache-{tamper.__name__}"
    made = register(store, tmp_path, task=task)
    elsewhere.load(made, "t1", Comparisons())
    (fetched,) = Path(elsewhere.cache, f"dev.{task}").iterdir()
    tamper(fetched)
    with pytest.raises(TamperedModelError, match=made.digest[:16]):
        elsewhere.load(made, "t1", Comparisons())


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
        elsewhere.load(made, "t1", Comparisons())
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


def test_a_version_is_copied_to_another_environment_with_the_tested_bytes_once(store, elsewhere, tmp_path):
    made = judged(store, tmp_path, 1, "carried")
    made = store.version("carried", made.version)
    prod = store.for_environment("prod")
    copy = store.copy_to(prod, made)
    assert store.copy_to(prod, made) == copy
    assert (copy.name, copy.version, copy.digest, copy.metrics) == ("prod.carried", 1, made.digest, made.metrics)
    assert copy.verdict == made.verdict
    assert copy.record["copied_from"] == "dev.carried/1"
    promotion.promote(prod, "carried", 1, by="ada", why="tested")
    assert "carried" not in store.traffic()
    assert prod.traffic()["carried"] == Traffic(1)
    shutil.rmtree(Path(store.artifacts, "dev.carried"))
    loaded = elsewhere.for_environment("prod").load(prod.champion("carried"), "t1", Comparisons())
    assert loaded.digest == directory_digest(tmp_path / "carried-1")


def test_files_that_were_changed_are_not_copied(store, tmp_path):
    judged(store, tmp_path, 1, "changed")
    change(stored_at(store, "changed"))
    with pytest.raises(TamperedModelError):
        store.copy_to(store.for_environment("prod"), store.version("changed", 1))
    assert store.for_environment("prod").versions("changed") == []


def test_with_a_key_a_model_without_its_signature_does_not_load(store, elsewhere, tmp_path):
    key, other = replace(elsewhere, key=b"a key of the tests"), replace(elsewhere, key=b"another key of them")
    unsigned = register(store, tmp_path, task="of_nobody")
    made = register(replace(store, key=key.key), tmp_path, task="of_the_key")
    assert key.load(made, "t1", Comparisons()).digest == made.digest
    for asked, version in ((key, unsigned), (other, made)):
        with pytest.raises(TamperedModelError, match="is not signed with this key"):
            asked.load(version, "t1", Comparisons())
    store.client.set_model_version_tag(unsigned.name, str(unsigned.version), SIGNATURE, made.record[SIGNATURE])
    with pytest.raises(TamperedModelError, match="is not signed with this key"):
        key.load(store.version("of_nobody", unsigned.version), "t1", Comparisons())
    key.sign(unsigned)
    assert key.load(store.version("of_nobody", unsigned.version), "t1", Comparisons()).digest == unsigned.digest


def test_files_that_were_changed_are_not_signed(store, elsewhere, tmp_path):
    made = register(store, tmp_path, task="retouched")
    file = stored_at(store, "retouched") / "model.json"
    file.write_text(file.read_text().replace("t1", "t2"))
    with pytest.raises(TamperedModelError, match="registered was"):
        replace(elsewhere, key=b"a key of the tests").sign(made)


def test_a_copy_in_another_environment_is_signed_there(store, elsewhere, tmp_path):
    key = replace(store, key=b"a key of the tests")
    tested = judged(key, tmp_path, task="in_prod")
    copied = key.copy_to(key.for_environment("prod"), key.version("in_prod", tested.version))
    assert replace(elsewhere, environment="prod", key=key.key).load(copied, "t1", Comparisons()).digest == copied.digest
