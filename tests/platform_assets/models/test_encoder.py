import shutil
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from platform_assets.models import encoder as encoder_asset
from platform_assets.models.encoder import encoder_model, unsettled
from platform_assets.models.heads import model_asset
from platform_assets.silver import embeddings
from resources.encoder import Encoder
from resources.lakehouse import DAY, Lakehouse
from resources.registry import ENCODER, Registry, TamperedModelError
from signals import tuning
from signals.training import NotEnoughLabelsError
from tests.platform_assets.models.conftest import IRONY, NOW, answers, land

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A registry's database with nothing in it, which takes long to make."""
    file = tmp_path_factory.mktemp("mlflow") / "db"
    Registry(tracking_uri=f"sqlite:///{file}", artifacts=str(file), cache=str(file)).versions("any")
    return file


@pytest.fixture
def registry(empty, tmp_path):
    shutil.copy(empty, tmp_path / "db")
    files, cache = str(tmp_path / "files"), str(tmp_path / "cache")
    return Registry(tracking_uri=f"sqlite:///{tmp_path}/db", artifacts=files, cache=cache)


@pytest.fixture
def lake(tmp_path, registry):
    """Return a lake with labels, a page and a message, and a head for one task that serves."""
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    encoder = Encoder(registry=registry)
    land(lake, encoder, answers())
    for table, more in (
        ("silver/pages", {"title": "Bridge opens", "language": "en", "site": "news.example"}),
        ("silver/messages", {}),
    ):
        row = {"content_hash": f"{table:0>64}", "text": "It is open.", DAY: NOW.date(), **more}
        lake.insert_missing(table, pl.DataFrame([row]), ["content_hash"])
    assert materialise(model_asset(IRONY), lake, registry).success
    return lake


@pytest.fixture(autouse=True)
def few_labels_suffice(monkeypatch):
    monkeypatch.setattr(encoder_asset, "LEAST_TEXTS", 20)
    monkeypatch.setattr(tuning, "TUNING_ROWS", 10)
    monkeypatch.setattr(tuning, "LEAST_ROWS", 3)
    monkeypatch.setattr(tuning, "tune", partial(tuning.tune, examples=64))


def materialise(asset, lake, registry):
    resources = {"lakehouse": lake, "encoder": Encoder(registry=registry), "registry": registry}
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
    assert registry.load(champion, serving.transform_id)


def test_all_that_a_new_encoder_needs_is_made_beside_what_serves_and_then_it_serves(lake, registry):
    before = Encoder(registry=registry)
    assert before.encode(["pinned"]).shape == (1, 384)
    result = materialise(encoder_model, lake, registry)
    assert check(result) == (True, "mean of 1 tasks 1.000 against 1.000")
    champion, serving = registry.champion(ENCODER), Encoder(registry=registry)
    assert (champion.version, champion.digest) == (1, serving.digest)
    assert champion.transform_id == serving.transform_id != before.transform_id
    head = registry.champion("irony")
    assert (head.version, head.transform_id) == (2, serving.transform_id)
    assert registry.load(head, serving.transform_id)
    stored = lake.read("silver/embeddings")
    texts = {e: set(part["content_hash"]) for (e,), part in stored.group_by("encoder_id")}
    assert set(texts) == {before.encoder_id, serving.encoder_id}
    assert texts[before.encoder_id] <= texts[serving.encoder_id]
    assert texts[serving.encoder_id] >= {f"{table:0>64}" for table in ("silver/pages", "silver/messages")}
    assert lake.stale_days(embeddings.TABLE, embeddings.INPUTS, serving.encoder_id, streamed=True) == []
    assert lake.stale_days(embeddings.TABLE, embeddings.INPUTS, before.encoder_id, streamed=True) != []
    assert before.now().digest == serving.now().digest == champion.digest
    # What began under the old encoder ends under it, with the old head.
    old = registry.under(before.digest).champion("irony")
    assert (before.digest, old.version, old.transform_id) == ("", 1, before.transform_id)


def test_an_encoder_under_which_a_task_has_no_head_is_refused(lake, registry, monkeypatch):
    def fails(*_):
        raise NotEnoughLabelsError

    monkeypatch.setattr(encoder_asset, "renewed", fails)
    passed, why = check(materialise(encoder_model, lake, registry))
    assert not passed
    assert "irony has no head" in why
    assert registry.versions(ENCODER)[0].verdict.why == why
    assert unsettled(registry) is None
    assert_nothing_has_changed(registry)


@pytest.mark.parametrize("step", ["encode_stored", "figures", "gate"])
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
