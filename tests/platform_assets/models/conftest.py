"""An encoder, and labels in tables, for tests of what is trained from them."""

import io
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest
from PIL import Image

from platform_assets.bronze.review_labels import SCHEMA
from platform_assets.models.heads import model_asset
from platform_assets.parsing import parse_records
from platform_assets.silver.embeddings import encoded
from platform_assets.silver.labels import resolved
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.landing.records import Record
from signals.classify import DOCUMENT_KEY
from signals.tasks import TASKS

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
    received, broken = parse_records(records, SCHEMA, "labels/a.jsonl", now)
    assert broken.is_empty()
    staged = resolved(received, pictures(lake)).filter(pl.col("rule").is_null())
    lake.insert_missing("silver/labels", staged.drop("rule"), ["label_id"])
    if encode:
        vectors = encoded(staged.select("content_hash", "text", DAY).unique("content_hash"), encoder)
        lake.insert_missing("silver/embeddings", vectors, ["content_hash", "encoder_id"])


@pytest.fixture(scope="session")
def encoder():
    return Encoder()


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


def picture(colour):
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(stream, "PNG")
    return stream.getvalue()


def land_pictures(lake, *named):
    rows = [
        dict(zip(DOCUMENT_KEY, ("default", f"http://example.org/{name}.png", f"{name:0>64}"), strict=True))
        | {"body": picture(colour)}
        for name, colour in named
    ]
    lake.insert_missing("silver/images", pl.DataFrame(rows), ["content_hash"])


def pictures(lake):
    """Return what labels may name, the pictures there are, as ``silver.labels.documents`` does."""
    if not lake.exists("silver/images"):
        return pl.DataFrame(schema=dict.fromkeys(("name", *DOCUMENT_KEY, "text"), pl.String))
    return lake.read("silver/images").select(*DOCUMENT_KEY, name="document_id", text=pl.lit(""))


def picture_label(name, label, **more):
    return {"task": "image_threat", "label": label, "document_id": f"http://example.org/{name}.png"} | more
