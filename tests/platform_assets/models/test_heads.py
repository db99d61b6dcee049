from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

from governance.transform_comparisons import Comparisons
from platform_assets.models import heads
from platform_assets.models.evaluation import held_out
from platform_assets.models.heads import model_asset, task_doc, train_and_promote, train_head
from platform_assets.models.labelled import label_counts, labelled_images, labels_of, vectors_of
from platform_assets.silver import embeddings
from platform_assets.silver.embeddings import encoded
from resources.registry.errors import ModelMissingError
from resources.registry.versions import REFERENCE
from signals.models.drift import Reference
from signals.models.examples import examples
from signals.models.heads import directory_digest, load_head
from signals.models.metrics import evaluate
from signals.models.training import NotEnoughLabelsError
from signals.tasks import TASKS
from tests.platform_assets.models.conftest import (
    HATE,
    IMAGE_THREAT,
    IRONY,
    NOW,
    answers,
    land,
    land_pictures,
    picture,
    picture_label,
)
from tests.support.pictures import by_colour


@pytest.mark.slow
def test_a_model_that_passes_the_gate_serves_and_one_that_is_worse_does_not(lake, encoder, registry, materialised):
    land(lake, encoder, answers())
    shown, check = materialised(IRONY)
    first = registry.champion("irony")
    assert (first.version, shown["version"], shown["champion"], check.passed) == (1, 1, True, True)
    assert shown["f1_positive"] == first.metrics["f1_positive"] == 1.0
    assert first.transform_id == encoder.transform_id
    assert {name: first.record[name] for name in ("labels", "rows_train", "rows_val", "version:silver/labels")} == {
        "labels": "40",
        "rows_train": "28",
        "rows_val": "12",
        "version:silver/labels": str(lake.version("silver/labels")),
    }
    serving = registry.load(first, encoder.transform_id, Comparisons()).scorer
    assert figures(serving, lake, encoder)["f1_positive"] == 1.0

    shown, check = materialised(IRONY)
    assert registry.champion("irony").version == 2
    assert shown["digest"] == first.digest

    misled = [row for row in answers(swapped=True) if row["split"] == "train"]
    land(lake, encoder, misled, NOW + timedelta(hours=1))
    shown, check = materialised(IRONY)
    assert (shown["version"], shown["champion"], check.passed) == (3, False, False)
    assert registry.champion("irony").version == 2
    assert len(registry.versions("irony")) == 3


@pytest.mark.slow
def test_without_labels_nothing_is_registered_and_the_check_says_why(lake, encoder, registry, materialised):
    land(lake, encoder, [{"task": "hate", "label": "hate", "text": "one text"}])
    shown, check = materialised(HATE)
    assert shown["champion"] is False
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "task hate" in check.metadata["why"].value
    assert registry.versions("hate") == []
    with pytest.raises(ModelMissingError):
        registry.champion("hate")


@pytest.mark.slow
def test_the_packaged_image_model_is_judged_on_labelled_images(lake, encoder, registry, materialised):
    land_pictures(lake, *((f"{i}", colour) for i, colour in enumerate(("red", "white", "green"))))
    land(lake, encoder, [picture_label(f"{i}", "safe") for i in range(3)], encode=False)
    shown, check = materialised(IMAGE_THREAT)
    assert check.passed
    champion = registry.champion("image_threat")
    assert (champion.metrics["accuracy"], champion.metrics["rows"]) == (1.0, 3.0)
    assert champion.record["rows_train"] == "0"
    assert (champion.reference.rows, champion.reference.answers) == (0, {"safe": 3})
    assert shown["metric"] == "accuracy"


def test_training_from_the_tables_writes_a_head_with_its_record(lake, encoder, tmp_path):
    land(lake, encoder, answers())
    metrics, record = train_head(IRONY, lake, encoder, tmp_path)
    assert metrics["f1_positive"] == 1.0
    assert (record["rows_train"], record["rows_val"], record["rows_seeds"]) == (28, 12, 0)
    assert record["transform_id"] == encoder.transform_id
    kept = Reference.load(record[REFERENCE])
    rows = examples(IRONY, lake.read("silver/labels"))
    taught = vectors_of(rows.filter(pl.col("split") != "val"), lake, encoder)
    assert kept.mean == pytest.approx(taught.mean(axis=0), abs=1e-5)
    assert (kept.rows, kept.answers) == (28, {"non_irony": 6, "irony": 6})
    head = load_head(tmp_path)
    assert head.labels == IRONY.labels
    assert figures(head, lake, encoder).items() <= metrics.items()
    again = tmp_path / "again"
    again.mkdir()
    assert train_head(IRONY, lake, encoder, again) == (metrics, record)
    assert directory_digest(again) == directory_digest_of_files(tmp_path)


@pytest.mark.slow
def test_what_lands_while_a_model_is_trained_neither_teaches_nor_judges_nor_counts_as_seen(
    lake, encoder, registry, materialised, monkeypatch
):
    land(lake, encoder, answers())
    before = lake.version("silver/labels")

    def interrupted(*given):
        land(lake, encoder, answers(swapped=True), NOW + timedelta(hours=1), encode=False)
        return train_head(*given)

    monkeypatch.setattr(heads, "train_head", interrupted)
    materialised(IRONY)
    record = registry.champion("irony").record
    assert (record["version:silver/labels"], record["labels"], record["rows_train"]) == (str(before), "40", "28")
    assert registry.champion("irony").metrics["f1_positive"] == 1.0
    assert lake.version("silver/labels") > before


def figures(head, lake, encoder):
    rows = held_out(IRONY, lake, encoder)
    return evaluate(head.scores(*rows.features), rows.y_true, IRONY.labels)


def directory_digest_of_files(folder):
    copy = folder / "copy"
    copy.mkdir()
    for name in ("model.json", "weights.safetensors"):
        (copy / name).write_bytes((folder / name).read_bytes())
    return directory_digest(copy)


def test_labels_of_other_tasks_alone_make_no_model(lake, encoder, tmp_path):
    land(lake, encoder, answers(task="some_other"))
    with pytest.raises(NotEnoughLabelsError, match="task irony"):
        train_head(IRONY, lake, encoder, tmp_path)
    assert list(tmp_path.glob("*.json")) == []


def test_vectors_come_in_the_order_of_the_rows(lake, encoder):
    land(lake, encoder, answers())
    rows = examples(IRONY, lake.read("silver/labels")).sample(fraction=1, shuffle=True, seed=2)
    rows = pl.concat([rows, rows.head(3)])
    found = vectors_of(rows, lake, encoder)
    assert found.tobytes() == encoder.encode(rows["text"].to_list()).tobytes()
    assert vectors_of(rows.clear(), lake, encoder).shape == (0, 384)


@pytest.mark.slow
def test_texts_without_a_vector_of_this_encoder_are_encoded_once_and_stop_no_training(lake, encoder, monkeypatch):
    land(lake, encoder, answers())
    others = lake.read("silver/embeddings").with_columns(encoder_id=pl.lit("another"))
    lake.insert_missing("silver/embeddings", others, embeddings.KEY)
    land(lake, encoder, [{"task": "irony", "label": "irony", "text": f"new {i}"} for i in range(2)], encode=False)
    rows, asked = examples(IRONY, lake.read("silver/labels")), []

    def counted(texts, given):
        asked.extend(texts["text"])
        return encoded(texts, given)

    monkeypatch.setattr(embeddings, "encoded", counted)
    found = vectors_of(rows, lake, encoder)
    assert sorted(asked) == ["new 0", "new 1"]
    assert found.tobytes() == encoder.encode(rows["text"].to_list()).tobytes()
    assert vectors_of(rows, lake, encoder).tobytes() == found.tobytes()
    assert sorted(asked) == ["new 0", "new 1"]
    stored = lake.read("silver/embeddings")
    assert stored.select(embeddings.KEY).is_unique().all()
    assert dict(stored["encoder_id"].value_counts().rows()) == {encoder.encoder_id: 42, "another": 40}


def test_labels_are_counted_with_those_of_auxiliary_tasks(lake, encoder):
    land(
        lake, encoder, [{"task": task, "label": "neither", "text": "x"} for task in ("hate_davidson", "other", "other")]
    )
    counts = label_counts(lake)
    assert counts == {"hate_davidson": 1, "other": 2}
    assert labels_of(HATE, counts | {"hate": 5}) == 6
    assert labels_of(IRONY, counts) == 0


def test_each_labelled_picture_is_judged_once(lake, encoder):
    land_pictures(lake, ("1", "red"), ("2", "white"), ("3", "blue"))
    labels = [picture_label("2", "safe"), picture_label("1", "adult"), picture_label("2", "safe")]
    land(
        lake,
        encoder,
        [*labels, picture_label("9", "safe"), {"task": "irony", "label": "irony", "text": "x"}],
        encode=False,
    )
    found = labelled_images(IMAGE_THREAT, lake)
    assert found["label"].to_list() == ["adult", "safe"]
    assert found["body"].to_list() == [picture("red"), picture("white")]


def test_the_latest_answer_about_a_picture_counts(lake, encoder):
    land_pictures(lake, ("1", "red"), ("2", "white"))
    for name, hours in (("1", (3, 5)), ("2", (5, 3))):
        for hour, label in zip(hours, ("adult", "safe"), strict=True):
            land(lake, encoder, [picture_label(name, label, labelled_at=f"2026-11-10T0{hour}:00:00Z")], encode=False)
    assert labelled_images(IMAGE_THREAT, lake)["label"].to_list() == ["safe", "adult"]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_has_an_asset_that_says_what_it_is(task):
    asset = model_asset(task)
    assert asset.key == dg.AssetKey(["models", task.name])
    described = asset.specs_by_key[asset.key].description
    assert described == task_doc(task)
    assert task.metric in described
    assert f"{len(task.labels)} labels" in described


@pytest.mark.slow
def test_a_model_that_a_user_adds_stays_beside_the_packaged_one_and_is_judged_with_it(
    lake, encoder, registry, materialised, tmp_path
):
    colours = ("red", "lime", "green", "black")
    land_pictures(lake, *((f"{i}", colour) for i, colour in enumerate(colours)))
    land(lake, encoder, [picture_label(f"{i}", "arms" if i == 0 else "safe") for i in range(4)], encode=False)
    heads = registry.for_encoder(encoder.digest)
    model, verdict = train_and_promote(IMAGE_THREAT, lake, encoder, heads, added=by_colour(tmp_path))
    assert verdict.passed
    assert model.metrics["accuracy"] == 1.0
    shown, check = materialised(IMAGE_THREAT)
    assert (shown["version"], shown["accuracy"], check.passed) == (2, 1.0, True)
    assert shown["digest"] == model.digest
