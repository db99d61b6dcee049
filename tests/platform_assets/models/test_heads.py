import io
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from PIL import Image

from platform_assets.bronze.review_labels import EXPECTED
from platform_assets.models.heads import (
    MissingVectorsError,
    held_out_figures,
    label_counts,
    labelled_pictures,
    labels_of,
    model_asset,
    task_doc,
    trained,
    vectors_of,
)
from platform_assets.records import receive
from platform_assets.silver.embeddings import encoded
from platform_assets.silver.labels import resolved
from resources.encoder import Encoder
from resources.lakehouse import DAY, Lakehouse
from resources.landing import Record
from resources.registry import ModelMissingError, Registry
from signals.heads import directory_digest, load_head
from signals.tasks import TASKS
from signals.training import NotEnoughLabelsError, examples

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
PLACES = ("bus", "office", "kitchen", "airport", "gym", "cinema", "hotel", "garden", "bank", "school")
SAID = {
    "irony": ("Oh great, the {} is closed again, just what I needed.", "Wow, what a fantastic wait at the {}, thanks."),
    "non_irony": ("The {} opens at nine on weekdays.", "We walked to the {} and met our friends there."),
}
IRONY, HATE, IMAGE_THREAT = TASKS["irony"], TASKS["hate"], TASKS["image_threat"]


def answers(*, swapped=False, task="irony"):
    """Return labels of both answers about ten places, the last three held out."""
    other = dict(zip(SAID, reversed(SAID), strict=True))
    return [
        {"task": task, "label": other[label] if swapped else label, "text": pattern.format(place), "split": split}
        for label, patterns in SAID.items()
        for place, split in zip(PLACES, ["train"] * 7 + ["val"] * 3, strict=True)
        for pattern in patterns
    ]


def land(lake, encoder, rows, now=NOW, *, encode=True):
    """Put labels into silver/labels as its asset does, and their vectors into silver/embeddings."""
    count = lake.count("silver/labels") if lake.exists("silver/labels") else 0
    records = [Record(i, {"label_id": f"{count + i:05}"} | row) for i, row in enumerate(rows, 1)]
    received, broken = receive(records, EXPECTED, pl.Schema(), "labels/a.jsonl", now)
    assert broken.is_empty()
    staged = resolved(received, pictures(lake)).filter(pl.col("rule").is_null())
    lake.insert_missing("silver/labels", staged.drop("rule"), ["label_id"])
    if encode:
        vectors = encoded(staged.select("content_hash", "text", DAY).unique("content_hash"), encoder)
        lake.insert_missing("silver/embeddings", vectors, ["content_hash", "encoder_id"])


@pytest.fixture(scope="module")
def encoder():
    return Encoder()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    return Registry(tracking_uri=f"sqlite:///{folder}/db", artifacts=str(folder / "files"), cache=str(folder / "cache"))


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path / "lake"))


@pytest.fixture
def materialised(lake, encoder, registry):
    def materialise(task):
        resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
        result = dg.materialize([model_asset(task)], resources=resources)
        (made,) = result.asset_materializations_for_node(f"models__{task.name}")
        (check,) = result.get_asset_check_evaluations()
        return {name: value.value for name, value in made.metadata.items()}, check

    return materialise


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
    serving = registry.load(first, encoder.transform_id).scorer
    assert held_out_figures(IRONY, serving, lake, encoder)["f1_positive"] == 1.0

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
def test_the_packaged_image_model_is_judged_on_labelled_pictures(lake, encoder, registry, materialised):
    land_pictures(lake, *((f"{i}", colour) for i, colour in enumerate(("red", "white", "green"))))
    land(lake, encoder, [picture_label(f"{i}", "safe") for i in range(3)], encode=False)
    shown, check = materialised(IMAGE_THREAT)
    assert check.passed
    champion = registry.champion("image_threat")
    assert (champion.metrics["accuracy"], champion.metrics["rows"]) == (1.0, 3.0)
    assert champion.record["rows_train"] == "0"
    assert shown["metric"] == "accuracy"


def picture(colour):
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(stream, "PNG")
    return stream.getvalue()


def land_pictures(lake, *named):
    rows = [
        {"document_id": f"http://example.org/{name}.png", "content_hash": f"{name:0>64}", "body": picture(colour)}
        for name, colour in named
    ]
    lake.insert_missing("silver/images", pl.DataFrame(rows), ["content_hash"])


def pictures(lake):
    """Return what labels may name: document_id, content_hash and text of the pictures there are."""
    if not lake.exists("silver/images"):
        return pl.DataFrame(schema=dict.fromkeys(("document_id", "content_hash", "text"), pl.String))
    return lake.read("silver/images").select("document_id", "content_hash", text=pl.lit(""))


def picture_label(name, label, **more):
    return {"task": "image_threat", "label": label, "document_id": f"http://example.org/{name}.png"} | more


def test_training_from_the_tables_writes_a_head_with_its_record(lake, encoder, tmp_path):
    land(lake, encoder, answers())
    metrics, record = trained(IRONY, lake, encoder, tmp_path)
    assert metrics["f1_positive"] == 1.0
    assert (record["rows_train"], record["rows_val"], record["rows_seeds"]) == (28, 12, 0)
    assert record["transform_id"] == encoder.transform_id
    head = load_head(tmp_path)
    assert head.labels == IRONY.labels
    assert held_out_figures(IRONY, head, lake, encoder) == metrics
    again = tmp_path / "again"
    again.mkdir()
    trained(IRONY, lake, encoder, again)
    assert directory_digest(again) == directory_digest_of_files(tmp_path)


def directory_digest_of_files(folder):
    copy = folder / "copy"
    copy.mkdir()
    for name in ("model.json", "weights.safetensors"):
        (copy / name).write_bytes((folder / name).read_bytes())
    return directory_digest(copy)


def test_labels_of_other_tasks_alone_make_no_model(lake, encoder, tmp_path):
    land(lake, encoder, answers(task="some_other"))
    with pytest.raises(NotEnoughLabelsError, match="task irony"):
        trained(IRONY, lake, encoder, tmp_path)
    assert list(tmp_path.glob("*.json")) == []


def test_vectors_come_in_the_order_of_the_rows(lake, encoder):
    land(lake, encoder, answers())
    rows = examples(IRONY, lake.read("silver/labels")).sample(fraction=1, shuffle=True, seed=2)
    rows = pl.concat([rows, rows.head(3)])
    found = vectors_of(rows, lake, encoder)
    assert found.tobytes() == encoder.encode(rows["text"].to_list()).tobytes()
    assert vectors_of(rows.clear(), lake, encoder).shape == (0, 384)


def test_texts_without_a_vector_of_this_encoder_are_an_error_that_says_what_to_do(lake, encoder):
    land(lake, encoder, answers())
    land(lake, encoder, [{"task": "irony", "label": "irony", "text": f"new {i}"} for i in range(2)], encode=False)
    rows = examples(IRONY, lake.read("silver/labels"))
    with pytest.raises(MissingVectorsError, match="2 labelled texts have no vector: materialise silver/embeddings"):
        vectors_of(rows, lake, encoder)
    vectors = lake.read("silver/embeddings").with_columns(encoder_id=pl.lit("another"))
    lake.replace_all("silver/embeddings", vectors)
    with pytest.raises(MissingVectorsError, match="42 labelled texts"):
        vectors_of(rows, lake, encoder)


def test_labels_are_counted_with_those_that_are_borrowed(lake, encoder):
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
    found = labelled_pictures(IMAGE_THREAT, lake)
    assert found["label"].to_list() == ["adult", "safe"]
    assert found["body"].to_list() == [picture("red"), picture("white")]


def test_the_latest_answer_about_a_picture_counts(lake, encoder):
    land_pictures(lake, ("1", "red"), ("2", "white"))
    for name, hours in (("1", (3, 5)), ("2", (5, 3))):
        for hour, label in zip(hours, ("adult", "safe"), strict=True):
            land(lake, encoder, [picture_label(name, label, labelled_at=f"2026-11-10T0{hour}:00:00Z")], encode=False)
    assert labelled_pictures(IMAGE_THREAT, lake)["label"].to_list() == ["safe", "adult"]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_has_an_asset_that_says_what_it_is(task):
    asset = model_asset(task)
    assert asset.key == dg.AssetKey(["models", task.name])
    described = asset.specs_by_key[asset.key].description
    assert described == task_doc(task)
    assert task.metric in described
    assert f"{len(task.labels)} labels" in described
