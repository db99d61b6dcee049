"""What is worse, unmeasured, tampered with, of another transformation, too late or half done never becomes champion."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from governance.gates.promotion import Verdict
from governance.transform_comparisons import Comparisons
from platform_assets.models import evaluation, heads
from platform_assets.models.evaluation import held_out, judge_and_promote, slices_of
from platform_assets.models.heads import model_asset
from platform_assets.operations.model_versions import row
from resources.registry import promotion
from resources.registry.errors import TamperedModelError
from resources.registry.models import Registry
from resources.registry.versions import promotion_log
from sensors import retraining
from signals.models.ngrams import ngrams
from signals.models.transform import TransformMismatchError
from tests.platform_assets.models.conftest import IRONY, NOW, PLACES, answers, land

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(lake, encoder, registry, materialised):
    """Train the first champion, version 1."""
    land(lake, encoder, answers())
    materialised(IRONY)
    return registry.champion("irony")


class Killed(BaseException):
    """What a kill is to the code that it meets."""


def due(lake, registry, encoder):
    """Say whether the sensor would train the task tomorrow."""
    verdicts = retraining.verdicts(lake, registry, encoder.transform_id, datetime.now(UTC) + timedelta(days=1))
    return next(one.needed for one in verdicts if one.model == "models/irony")


def misled(lake, encoder):
    """Land labels that turn what is right around, for training only."""
    rows = [row for row in answers(swapped=True) if row["split"] == "train"]
    land(lake, encoder, rows, NOW + timedelta(hours=1))


def test_a_worse_challenger_is_refused_and_the_verdict_is_kept_and_shown(
    lake, encoder, registry, materialised, trained
):
    misled(lake, encoder)
    shown, check = materialised(IRONY)
    assert registry.champion("irony") == trained
    assert (shown["version"], shown["champion"], check.passed) == (2, False, False)
    verdict = registry.version("irony", 2).verdict
    assert (verdict.passed, verdict.against) == (False, 1)
    assert "below the champion's" in verdict.why
    assert {figure.kind for figure in verdict.figures} >= {"overall", "label"}
    assert check.metadata["why"].value == verdict.why
    assert len(check.metadata["compared"].value["figures"]) == len(verdict.figures)
    assert Verdict.load(row(registry.version("irony", 2))["gate"]) == verdict


@pytest.mark.usefixtures("trained")
def test_a_failed_gate_stops_nothing_in_the_same_run_while_a_champion_can_serve(lake, encoder, registry):
    misled(lake, encoder)

    @dg.asset(deps=[dg.AssetKey(["models", "irony"])])
    def after() -> None: ...

    def run(encoder):
        resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
        return dg.materialize([model_asset(IRONY), after], resources=resources, raise_on_error=False)

    ran = run(encoder)
    (check,) = ran.get_asset_check_evaluations()
    assert (check.passed, check.severity, check.blocking) == (False, dg.AssetCheckSeverity.WARN, True)
    assert ran.success
    assert len(ran.asset_materializations_for_node("after")) == 1


def test_a_turned_topic_is_learnt_though_more_is_stored_that_says_otherwise(
    lake, encoder, registry, materialised, monkeypatch
):
    monkeypatch.setattr("signals.models.examples.MAX_ROWS", 100)
    monkeypatch.setattr("signals.models.examples.MAX_HELD_OUT", 40)
    splits = ["train"] * 7 + ["val"] * 3

    def tips(label, odds, fifths):
        """Return labels of tips on two of ten places; those of other fifths are on other pairs of the same places."""
        return [
            {
                "task": "irony",
                "label": label,
                "text": f"Tip: back the {one} over the {other} at {price}.",
                "split": split,
            }
            for i, one in enumerate(PLACES)
            for j, (other, split) in enumerate(zip(PLACES, splits, strict=True))
            for price in odds
            if (i + j) % 5 in fifths
        ]

    others = [one | {"text": f"{one['text']} {n}"} for n in range(5) for one in answers()]
    odds = ("five to two", "nine to one")
    land(lake, encoder, others + tips("non_irony", odds, (0, 1, 2)))
    materialised(IRONY)
    land(lake, encoder, tips("irony", odds, (3, 4)), NOW + timedelta(hours=1))
    shown, _ = materialised(IRONY)
    assert (shown["version"], shown["champion"]) == (2, True), shown["gate"]
    texts = [one["text"] for one in tips("irony", ["six to four"], range(5))]
    head = registry.load(registry.champion("irony"), encoder.transform_id, Comparisons()).scorer
    said = head.scores(encoder.encode(texts), ngrams(texts)).argmax(axis=1)
    assert (said == IRONY.labels.index("irony")).mean() > 0.8


def test_a_challenger_without_its_metric_is_refused(lake, encoder, registry, monkeypatch, trained):
    real = heads.train_head

    def unmeasured(*given):
        metrics, record = real(*given)
        return {name: value for name, value in metrics.items() if name != IRONY.metric}, record

    monkeypatch.setattr(heads, "train_head", unmeasured)
    resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
    assert dg.materialize([model_asset(IRONY)], resources=resources).success
    verdict = registry.version("irony", 2).verdict
    assert (verdict.passed, verdict.why) == (False, "no f1_positive on held-out rows: not promoted")
    assert registry.champion("irony") == trained


def test_a_challenger_whose_files_were_changed_after_training_is_refused(lake, encoder, registry, monkeypatch, trained):
    real = Registry.register

    def tampered(self, *given):
        made = real(self, *given)
        stored = Path(self.artifacts, made.name).glob("*/artifacts/model/weights.safetensors")
        newest = max(stored, key=lambda path: path.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes()[:-1] + b"\x7f")
        return made

    monkeypatch.setattr(Registry, "register", tampered)
    resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
    misled(lake, encoder)
    with pytest.raises(TamperedModelError):
        dg.materialize([model_asset(IRONY)], resources=resources)
    assert registry.champion("irony") == trained
    assert registry.version("irony", 2).verdict is None


def test_a_challenger_of_another_transformation_is_refused(lake, encoder, registry, trained, tmp_path):
    registry.load(trained, encoder.transform_id, Comparisons()).scorer.save(
        tmp_path, task="irony", transform_id="another"
    )
    other = registry.register("irony", tmp_path, trained.metrics, {"transform_id": "another"})
    with pytest.raises(TransformMismatchError, match="another"):
        judge_and_promote(IRONY, other, registry, lake, encoder)
    assert registry.champion("irony") == trained


def test_a_training_that_is_killed_half_way_promotes_nothing_and_is_done_again(
    lake, encoder, registry, monkeypatch, materialised, trained
):
    land(lake, encoder, [one | {"text": f"{one['text']} Again."} for one in answers()], NOW + timedelta(hours=1))

    def die(*_, **__):
        raise Killed

    resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
    for owner, place in ((Registry, "register"), (Registry, "judge"), (evaluation.promotion, "promote")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, place, die)
            with pytest.raises(Killed):
                dg.materialize([model_asset(IRONY)], resources=resources)
        assert registry.champion("irony") == trained, place
        assert due(lake, registry, encoder), place
    materialised(IRONY)
    assert registry.champion("irony").version == 4


def test_of_two_trainings_at_once_the_later_is_compared_with_what_the_earlier_made(
    lake, encoder, registry, monkeypatch, trained
):
    """Both have been compared with version 1; while the worse one is judged, the better one is promoted."""
    better = registry.register("irony", registry.fetch(trained), trained.metrics, trained.record)
    head = registry.load(trained, encoder.transform_id, Comparisons()).scorer
    real, judged_first = evaluation.evaluate, []

    def rival_first(*given):
        verdict = real(*given)
        if not judged_first:
            judged_first.append(verdict)
            registry.judge(better, verdict)
            promotion.promote(registry, "irony", better.version, by="gate", why="faster", automatic=True)
        return verdict

    monkeypatch.setattr(evaluation, "evaluate", rival_first)
    folder = registry.fetch(trained).parent / "again"
    folder.mkdir()
    head.save(folder, task="irony", transform_id=encoder.transform_id)
    later = registry.register("irony", folder, trained.metrics, trained.record)
    verdict = judge_and_promote(IRONY, later, registry, lake, encoder)
    assert (judged_first[0].against, verdict.against) == (1, better.version)
    assert [event.version for event in promotion_log(registry.versions("irony"))] == [1, better.version, later.version]


@pytest.mark.usefixtures("trained")
def test_what_was_rolled_back_does_not_come_back_by_itself_and_is_not_trained_for_ever(
    lake, encoder, registry, materialised
):
    land(lake, encoder, [one | {"text": f"{one['text']} Again."} for one in answers()], NOW + timedelta(hours=1))
    materialised(IRONY)
    assert registry.champion("irony").version == 2
    promotion.roll_back(registry, "irony", 1, by="ada", why="complaints")

    assert not due(lake, registry, encoder)
    # Trained again by hand on the same labels, it has the same files: the gate refuses them.
    shown, check = materialised(IRONY)
    assert registry.champion("irony").version == 1
    assert (shown["version"], check.passed) == (3, False)
    assert "version 2, which was rolled back" in check.metadata["why"].value
    assert not due(lake, registry, encoder)
    # A person may.
    promotion.promote(registry, "irony", 2, by="ada", why="it was right after all")
    assert registry.champion("irony").version == 2
    materialised(IRONY)
    assert registry.champion("irony").version == 4


def test_held_out_rows_are_parted_by_what_is_known_of_them(lake, encoder):
    land(lake, encoder, [one | {"tenant_id": "acme" if "bank" in one["text"] else "other"} for one in answers()])
    rows = held_out(IRONY, lake, encoder)
    assert rows.slices.height == len(rows.y_true) == 12
    assert set(rows.slices["length"]) == {"short", "middle", "long"}
    assert set(rows.slices["tenant"]) == {"acme", "other"}
    text = pl.DataFrame({"content_hash": ["c"], "text": ["no label"]})
    page = text.select("content_hash", language=pl.lit("en"), site=pl.lit("a.example"))
    lake.replace_all("silver/pages", page)
    assert slices_of(IRONY, text, lake).rows(named=True) == [
        {"length": "short", "tenant": None, "language": "en", "site": "a.example", "kind": "page"}
    ]
