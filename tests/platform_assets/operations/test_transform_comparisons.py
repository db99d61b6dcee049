"""A head crosses between precisions once they are recorded to answer alike. The CPU stands for a GPU here."""

import dagster as dg
import pytest

from governance.gates.parity import Policy
from governance.gates.promotion import Verdict
from platform_assets.models.heads import model_asset
from platform_assets.operations.transform_comparisons import TABLE, due, transform_comparisons
from resources import encoder as resource
from resources.encoder import Encoder, tokenizer
from resources.registry import promotion
from sensors.retraining import verdicts
from signals.models.encoder import Int8Encoder
from signals.models.encoder_torch import HalfEncoder
from signals.models.transform import TransformMismatchError
from tests.platform_assets.models.conftest import IRONY, NOW, answers, land

pytestmark = pytest.mark.slow
LENIENT = Policy(texts=500, least_texts=5, mean_cosine=0.9, least_cosine=0.8, same_labels=0.9)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Have the CPU stand for a GPU that nothing is recorded of."""
    made = {}
    monkeypatch.setattr(resource, "has_gpu", lambda: True)
    monkeypatch.setattr(resource, "_load_half", lambda w: made.setdefault(w, HalfEncoder(w, tokenizer(), "cpu")))
    monkeypatch.setattr("governance.gates.parity.policy", lambda: LENIENT)
    return made


@pytest.fixture
def trained(lake, registry):
    """Return a lake and a registry in which a head was fitted in int8."""
    land(lake, Encoder(), answers())
    ran(model_asset(IRONY), lake, registry)
    return lake, registry


def ran(made, lake, registry):
    resources = {"lakehouse": lake, "encoder": Encoder(registry=registry, lakehouse=lake), "registry": registry}
    result = dg.materialize([made], resources=resources)
    (check,) = result.get_asset_check_evaluations()
    return check.passed, check.metadata["why"].value


def needed(lake, registry):
    found = verdicts(lake, registry, Encoder(registry=registry, lakehouse=lake).transform_id, NOW)
    return next(one.needed for one in found if one.model == "models/irony")


def test_a_gpu_encodes_and_a_head_crosses_once_a_comparison_is_recorded(trained):
    lake, registry = trained
    int8, before = Encoder(registry=registry, lakehouse=lake), registry.champion("irony")
    assert isinstance(int8._loaded, Int8Encoder)
    assert due(lake, int8, registry)
    passed, why = ran(transform_comparisons, lake, registry)
    assert passed, why
    assert "same labels in 1 tasks" in why
    kept = lake.read(TABLE)
    assert ran(transform_comparisons, lake, registry) == (True, why)
    assert lake.read(TABLE).rows() == kept.rows(), "what is measured twice is there once"
    assert kept.height == 1
    half = Encoder(registry=registry, lakehouse=lake)
    assert isinstance(half._loaded, HalfEncoder)
    assert int8.now().transform_id == half.transform_id
    assert not due(lake, half, registry)
    assert half.transform_id != int8.transform_id == before.transform_id
    model = registry.load(before, half.transform_id, half.comparisons())
    assert (model.version, model.transform_id) == (1, half.transform_id)
    assert not needed(lake, registry), "what crosses is not trained again"
    with pytest.raises(TransformMismatchError):
        registry.load(before, "0" * 16, half.comparisons())


def test_without_a_comparison_that_passed_int8_serves_and_nothing_crosses(trained, monkeypatch):
    lake, registry = trained
    strict = Policy(**vars(LENIENT) | {"mean_cosine": 1.1})
    monkeypatch.setattr("governance.gates.parity.policy", lambda: strict)
    passed, why = ran(transform_comparisons, lake, registry)
    assert not passed
    assert "is below 1.1" in why
    serving = Encoder(registry=registry, lakehouse=lake)
    both = serving.precisions()
    assert serving.transform_id == both.transform_ids[0]
    with pytest.raises(TransformMismatchError):
        registry.load(registry.champion("irony"), both.transform_ids[1], serving.comparisons())
    assert not due(lake, serving, registry), "it is known, and measured again only by a person"


def test_a_task_that_was_not_compared_does_not_cross_and_is_due(trained):
    lake, registry = trained
    ran(transform_comparisons, lake, registry)
    half, champion = Encoder(registry=registry, lakehouse=lake), registry.champion("irony")
    other = registry.register("hate", registry.fetch(champion), {}, {"transform_id": champion.transform_id})
    registry.judge(other, Verdict(passed=True, why="as it was measured"))
    with pytest.raises(TransformMismatchError):
        registry.load(other, half.transform_id, half.comparisons())
    assert registry.load(champion, half.transform_id, half.comparisons())
    assert not due(lake, half, registry)
    promotion.promote(registry, "hate", other.version, by="gate", why="as it was measured")
    assert due(lake, half, registry)


def test_a_gpu_that_is_lost_serves_to_the_end_of_what_is_under_way_and_int8_after_it(trained, gpu, monkeypatch):
    lake, registry = trained
    ran(transform_comparisons, lake, registry)
    serving = Encoder(registry=registry, lakehouse=lake)
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
    assert registry.load(registry.champion("irony"), after.transform_id, after.comparisons())


def test_where_no_gpu_is_int8_serves_and_says_so(trained, monkeypatch):
    lake, registry = trained
    monkeypatch.undo()
    if resource.has_gpu():
        pytest.skip("there is a GPU")
    why = "no GPU here, nothing to compare: the encoder serves in int8"
    assert ran(transform_comparisons, lake, registry) == (True, why)
    assert lake.count(TABLE) == 0
    assert not due(lake, Encoder(registry=registry, lakehouse=lake), registry)
    assert isinstance(Encoder(registry=registry, lakehouse=lake)._loaded, Int8Encoder)
