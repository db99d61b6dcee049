"""A head crosses between precisions once they are recorded to answer alike. The CPU stands for a GPU here."""

import dagster as dg
import pytest

from governance.gates.parity import Policy
from platform_assets.models import parity as asset
from platform_assets.models.heads import model_asset
from platform_assets.models.parity import due, encoder_parity
from resources import encoder as resource
from resources.encoder import Encoder, tokenizer
from sensors.retraining import verdicts
from signals.models.encoder import Int8Encoder
from signals.models.encoder_torch import HalfEncoder
from signals.models.transform import TransformMismatchError
from tests.platform_assets.models.conftest import IRONY, NOW, answers, land

pytestmark = pytest.mark.slow
LENIENT = Policy(texts=500, least_texts=5, mean_cosine=0.9, least_cosine=0.8, same_labels=0.9)


@pytest.fixture(autouse=True)
def gpu(registry, monkeypatch):
    """Have the CPU stand for a GPU that nothing is recorded of."""
    made = {}
    monkeypatch.setattr("resources.registry.models.PARITY", f"parity-{registry.environment}")
    monkeypatch.setattr(resource, "has_gpu", lambda: True)
    monkeypatch.setattr(resource, "_half", lambda w: made.setdefault(w, HalfEncoder(w, tokenizer(), "cpu")))
    monkeypatch.setattr("governance.gates.parity.policy", lambda: LENIENT)
    return made


@pytest.fixture
def trained(lake, registry):
    """Return a lake and a registry in which a head was fitted in int8."""
    land(lake, Encoder(), answers())
    ran(model_asset(IRONY), lake, registry)
    return lake, registry


def ran(made, lake, registry):
    resources = {"lakehouse": lake, "encoder": Encoder(registry=registry), "registry": registry}
    result = dg.materialize([made], resources=resources)
    (check,) = result.get_asset_check_evaluations()
    return check.passed, check.metadata["why"].value


def needed(lake, registry):
    found = verdicts(lake, registry, Encoder(registry=registry).transform_id, NOW)
    return next(one.needed for one in found if one.model == "models/irony")


def test_a_gpu_encodes_and_a_head_crosses_once_parity_is_recorded(trained):
    lake, registry = trained
    int8, before = Encoder(registry=registry), registry.champion("irony")
    assert isinstance(int8._loaded, Int8Encoder)
    assert due(int8, registry)
    passed, why = ran(encoder_parity, lake, registry)
    assert passed, why
    assert "same labels in 1 tasks" in why
    half = Encoder(registry=registry)
    assert isinstance(half._loaded, HalfEncoder)
    assert int8.now().transform_id == half.transform_id
    assert not due(half, registry)
    assert half.transform_id != int8.transform_id == before.transform_id
    model = registry.load(before, half.transform_id)
    assert (model.version, model.transform_id) == (1, half.transform_id)
    assert not needed(lake, registry), "what crosses is not trained again"
    with pytest.raises(TransformMismatchError):
        registry.load(before, "0" * 16)


def test_without_a_parity_that_passed_int8_serves_and_nothing_crosses(trained, monkeypatch):
    lake, registry = trained
    strict = Policy(**vars(LENIENT) | {"mean_cosine": 1.1})
    monkeypatch.setattr("governance.gates.parity.policy", lambda: strict)
    passed, why = ran(encoder_parity, lake, registry)
    assert not passed
    assert "is below 1.1" in why
    serving = Encoder(registry=registry)
    both = serving.precisions()
    assert serving.transform_id == both.transform_ids[0]
    with pytest.raises(TransformMismatchError):
        registry.load(registry.champion("irony"), both.transform_ids[1])
    assert not due(serving, registry), "it is known, and measured again only by a person"


def test_a_task_that_was_not_compared_does_not_cross_and_is_due(trained):
    lake, registry = trained
    ran(encoder_parity, lake, registry)
    land(lake, Encoder(), answers(task="hate"))
    half = Encoder(registry=registry)
    other = registry.register("hate", registry.fetched(registry.champion("irony")), {}, {"transform_id": "int8"})
    assert not registry.may_score(other, half.transform_id)
    assert registry.may_score(registry.champion("irony"), half.transform_id)


def test_a_gpu_that_is_lost_serves_to_the_end_of_what_is_under_way_and_int8_after_it(trained, gpu, monkeypatch):
    lake, registry = trained
    ran(encoder_parity, lake, registry)
    serving = Encoder(registry=registry)
    identity = serving.transform_id
    assert serving.now() is serving
    (half,) = gpu.values()
    half.device, vectors = "cuda", half._vectors

    def fails(ids):
        if half.device == "cuda":
            raise RuntimeError("CUDA error: device lost")
        return vectors(ids)

    monkeypatch.setattr(half, "_vectors", fails)
    assert serving.encode(["The gym opens at nine."]).shape == (1, 384)
    assert serving.transform_id == identity
    after = serving.now()
    assert isinstance(after._loaded, Int8Encoder)
    assert registry.load(registry.champion("irony"), after.transform_id)


def test_where_no_gpu_is_int8_serves_and_says_so(trained, monkeypatch):
    lake, registry = trained
    monkeypatch.undo()
    if resource.has_gpu():
        pytest.skip("there is a GPU")
    assert ran(encoder_parity, lake, registry) == (False, "no GPU here: the encoder serves in int8")
    assert not asset.due(Encoder(registry=registry), registry)
    assert isinstance(Encoder(registry=registry)._loaded, Int8Encoder)
