import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from governance.promotion_log import ENCODER
from governance.transform_comparisons import Comparisons
from platform_assets.models import encoder as encoder_asset
from platform_assets.models.encoder import encoder_model, unsettled
from platform_assets.models.heads import model_asset
from platform_assets.silver import embeddings
from resources import encoder as encoder_resource
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from resources.registry import encoder_promotion
from resources.registry.errors import TamperedModelError
from resources.registry.models import Registry
from sensors import retrain_encoder
from signals.models import tuning
from signals.models.training import NotEnoughLabelsError
from tests import encoders
from tests.encoders import other_encoder, shallow
from tests.platform_assets.models.conftest import IRONY, NOW, answers, land

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def shallow_encoder(tmp_path_factory):
    """Have an encoder of one layer be the packaged one."""
    file = shallow(tmp_path_factory.mktemp("shallow"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoders, "NOISY", "encoder.layer.0.output.dense.weight")
        for module in (encoder_asset, encoders, encoder_resource):
            patched.setattr(module, "packaged_weights", lambda: file)
        yield


def registry_of(folder):
    files, cache = str(folder / "files"), str(folder / "cache")
    return Registry(tracking_uri=f"sqlite:///{folder}/db", artifacts=files, cache=cache)


@pytest.fixture(scope="module")
def prepared(blank, tmp_path_factory):
    """Return a folder with a lake of labels, a page and a message, and a registry with a head that serves."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copy(blank, folder / "db")
    lake, registry = Lakehouse(uri=str(folder / "lake")), registry_of(folder)
    land(lake, Encoder(registry=registry), answers())
    for table, more in (
        ("silver/pages", {"title": "Bridge opens", "language": "en", "site": "news.example"}),
        ("silver/messages", {}),
    ):
        row = {"content_hash": f"{table:0>64}", "text": "It is open.", DAY: NOW.date(), **more}
        lake.insert_missing(table, pl.DataFrame([row]), ["content_hash"])
    assert materialise(model_asset(IRONY), lake, registry).success
    return folder


@pytest.fixture
def registry(prepared, tmp_path):
    shutil.copy(prepared / "db", tmp_path / "db")
    return registry_of(tmp_path)


@pytest.fixture
def lake(prepared, tmp_path):
    shutil.copytree(prepared / "lake", tmp_path / "lake")
    return Lakehouse(uri=str(tmp_path / "lake"))


@pytest.fixture(autouse=True)
def few_labels_suffice(monkeypatch):
    monkeypatch.setattr(encoder_asset, "LEAST_TEXTS", 20)
    monkeypatch.setattr(tuning, "TUNING_ROWS", 10)
    monkeypatch.setattr(tuning, "LEAST_ROWS", 3)
    monkeypatch.setattr(tuning, "EXAMPLES", 64)


def materialise(asset, lake, registry):
    resources = {"lakehouse": lake, "encoder": Encoder(registry=registry, threads=1), "registry": registry}
    return dg.materialize([asset], resources=resources, raise_on_error=False)


def check(result):
    (found,) = result.get_asset_check_evaluations()
    return found.passed, found.metadata["why"].value


def assert_nothing_has_changed(registry):
    serving = Encoder(registry=registry)
    assert (serving.digest, registry.serving_encoder()) == ("", "")
    assert serving.encoder_id == Encoder().encoder_id
    champion = registry.champion("irony")
    assert (champion.version, champion.transform_id) == (1, serving.transform_id)
    assert registry.load(champion, serving.transform_id, Comparisons())


def test_all_that_a_new_encoder_needs_is_made_beside_what_serves_and_then_it_serves(lake, registry):
    before = Encoder(registry=registry)
    assert before.encode(["pinned"]).shape == (1, 384)
    result = materialise(encoder_model, lake, registry)
    assert check(result) == (True, "mean of 1 tasks 1.000 against 1.000")
    champion, serving = registry.champion(ENCODER), Encoder(registry=registry)
    assert (champion.version, champion.digest) == (1, serving.digest)
    assert champion.transform_id == serving.transform_id != before.transform_id
    assert champion.record["examples"] == "64"
    assert [*Path(registry.cache, "tuning").iterdir()] == [], "no state of a tuning is left"
    head = registry.champion("irony")
    assert (head.version, head.transform_id) == (2, serving.transform_id)
    assert registry.load(head, serving.transform_id, Comparisons())
    stored = lake.read("silver/embeddings")
    texts = {e: set(part["content_hash"]) for (e,), part in stored.group_by("encoder_id")}
    assert set(texts) == {before.encoder_id, serving.encoder_id}
    assert texts[before.encoder_id] <= texts[serving.encoder_id]
    assert texts[serving.encoder_id] >= {f"{table:0>64}" for table in ("silver/pages", "silver/messages")}
    assert stale_days(lake, embeddings.TABLE, embeddings.INPUTS, serving.encoder_id, streamed=True) == []
    assert stale_days(lake, embeddings.TABLE, embeddings.INPUTS, before.encoder_id, streamed=True) != []
    assert before.now().digest == serving.now().digest == champion.digest
    # What began under the old encoder ends under it, with the old head.
    old = registry.for_encoder(before.digest).champion("irony")
    assert (before.digest, old.version, old.transform_id) == ("", 1, before.transform_id)


def test_an_encoder_under_which_a_task_has_no_head_is_refused(lake, registry, monkeypatch):
    def fails(*_):
        raise NotEnoughLabelsError

    monkeypatch.setattr(encoder_asset, "train_and_promote", fails)
    passed, why = check(materialise(encoder_model, lake, registry))
    assert not passed
    assert "irony has no head" in why
    assert registry.versions(ENCODER)[0].verdict.why == why
    assert unsettled(registry) is None
    assert_nothing_has_changed(registry)


@pytest.mark.parametrize("step", ["encode_stored", "compared_tasks", "gate"])
def test_a_run_that_is_killed_leaves_the_old_encoder_serving_and_the_next_goes_on(lake, registry, monkeypatch, step):
    with monkeypatch.context() as patched:
        patched.setattr(encoder_asset, step, killed)
        assert not materialise(encoder_model, lake, registry).success
    assert_nothing_has_changed(registry)
    assert unsettled(registry).version == 1
    monkeypatch.setattr(tuning, "tune", killed)
    assert check(materialise(encoder_model, lake, registry))[0]
    assert registry.champion(ENCODER).version == 1
    assert Encoder(registry=registry).digest == registry.champion(ENCODER).digest


def killed(*_, **__):
    raise KeyboardInterrupt("killed")


def test_a_gpu_that_fails_leaves_tuning_to_the_cpu(lake, registry, monkeypatch, caplog):
    """Of the GPU there is only what torch says of one that is lost."""
    monkeypatch.setattr(encoder_asset, "has_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "a GPU that is lost")
    monkeypatch.setattr(tuning, "tune", failing_on_a_gpu(tuning.tune))
    assert check(materialise(encoder_model, lake, registry))[0]
    assert registry.champion(ENCODER).version == 1
    assert "the GPU failed (CUDA error: device lost): tuning begins again on the CPU" in caplog.messages


def failing_on_a_gpu(tune):
    def tuned(*given, device, **more):
        if device == "cuda":
            raise RuntimeError("CUDA error: device lost\nCUDA kernel errors might be reported later")
        return tune(*given, device=device, **more)

    return tuned


@pytest.mark.parametrize("where", ["files", "cache"])
def test_weights_that_were_changed_are_refused(lake, registry, tmp_path, where):
    assert check(materialise(encoder_model, lake, registry))[0]
    if where == "files":
        shutil.rmtree(tmp_path / "cache" / f"dev.{ENCODER}")
    (file,) = Path(tmp_path / where / f"dev.{ENCODER}").rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(TamperedModelError, match="encoder version 1"):
        Encoder(registry=registry).encode(["a text"])


def test_with_few_labels_the_encoder_stays_as_it_is(lake, registry, monkeypatch):
    monkeypatch.setattr(encoder_asset, "LEAST_TEXTS", 29)
    assert check(materialise(encoder_model, lake, registry)) == (
        False,
        "28 labelled texts of 29: the encoder stays as it is",
    )
    assert registry.versions(ENCODER) == []
    assert_nothing_has_changed(registry)


def test_what_a_person_rolled_back_is_not_put_back_by_tuning_it_again(lake, registry):
    assert check(materialise(encoder_model, lake, registry))[0]
    encoder_promotion.roll_back(registry, None, lake, by="ada", why="complaints")
    assert_nothing_has_changed(registry)
    passed, why = check(materialise(encoder_model, lake, registry))
    assert not passed
    assert why == "has the files of version 1, which was rolled back: only a person may promote it"
    assert [one.digest for one in registry.versions(ENCODER)] == [registry.version(ENCODER, 1).digest] * 2
    assert_nothing_has_changed(registry)


def test_an_encoder_is_compared_again_with_what_serves_by_the_time_it_has_been_judged(lake, registry, monkeypatch):
    assert check(materialise(encoder_model, lake, registry))[0]
    second, seen, figures = other_encoder(registry), [], encoder_asset.compared_tasks

    def rolled_back_meanwhile(lakehouse, serving, following, known):
        seen.append(serving.digest)
        found = figures(lakehouse, serving, following, known)
        if len(seen) == 1:
            encoder_promotion.roll_back(registry, None, lake, by="ada", why="complaints")
        return found

    monkeypatch.setattr(encoder_asset, "compared_tasks", rolled_back_meanwhile)
    encoder_asset.encode_stored(lake, Encoder(registry=registry, version=second.version))
    verdict = encoder_asset.judge_and_promote(second, lake, Encoder(registry=registry), registry)
    assert seen == [registry.version(ENCODER, 1).digest, ""]
    assert verdict.against is None
    assert registry.serving_encoder() == (second.digest if verdict.passed else "")


def tick(lake, registry, dagster):
    with dg.build_sensor_context(instance=dagster, resources={"lakehouse": lake, "registry": registry}) as context:
        return retrain_encoder.retrain_encoder(context)


def test_the_sensor_starts_one_run_tries_again_after_an_hour_and_leaves_what_was_rolled_back(
    lake, registry, monkeypatch
):
    job = dg.Definitions(
        [encoder_model],
        resources={"lakehouse": lake, "encoder": Encoder(registry=registry, threads=1), "registry": registry},
    ).resolve_implicit_global_asset_job_def()
    with dg.instance_for_test() as dagster:
        assert tick(lake, registry, dagster).skip_message == "encoder: 28 labelled texts of 20000"
        monkeypatch.setattr(retrain_encoder, "LEAST_TEXTS", 20)
        request = tick(lake, registry, dagster)
        assert request.tags == retrain_encoder.TAG
        with monkeypatch.context() as patched:
            patched.setattr(encoder_asset, "encode_stored", killed)
            ran = job.execute_in_process(instance=dagster, tags=request.tags, raise_on_error=False)
        assert not ran.success
        assert "has failed: the next is 1:00:00 after it" in tick(lake, registry, dagster).skip_message
        monkeypatch.setattr(retrain_encoder, "WAIT", timedelta())
        assert isinstance(tick(lake, registry, dagster), dg.RunRequest)
        dagster.add_run(dg.DagsterRun(job_name=job.name, status=dg.DagsterRunStatus.STARTED, tags=retrain_encoder.TAG))
        assert "is in flight" in tick(lake, registry, dagster).skip_message
    with dg.instance_for_test() as dagster:
        assert job.execute_in_process(instance=dagster, tags=retrain_encoder.TAG).success
        assert registry.champion(ENCODER).version == 1
        assert tick(lake, registry, dagster).skip_message == "encoder: 28 labelled texts of 56"
        encoder_promotion.roll_back(registry, None, lake, by="ada", why="complaints")
        assert tick(lake, registry, dagster).skip_message == "encoder: 28 labelled texts of 56"
        assert_nothing_has_changed(registry)
