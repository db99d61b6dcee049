"""A multilingual encoder, end to end: the same task answers in more languages, each once it was measured."""

from dataclasses import replace

import pyarrow as pa
import pytest

from platform_assets.models.heads import train_and_promote
from resources.encoder import Encoder
from resources.serving_models import serving
from signals.answers import LANGUAGE
from signals.classify import DOCUMENT, classify
from signals.documents.text import content_hash
from signals.models.sentence_encoder import files_digest
from signals.tasks import TASKS
from tests.encoders import tiny_model
from tests.platform_assets.models.conftest import land

TASK = TASKS["sentiment"]
WORDS = {
    "en": ("The {} was wonderful, thank you all", "The {} was dreadful and we left early", "The {} opens at nine"),
    "fr": (
        "Le {} était merveilleux, merci à vous tous",
        "Le {} était affreux et nous sommes partis tôt",
        "Le {} ouvre à neuf heures du matin",
    ),
}
PLACES = [f"{first} {last}" for first in ("garden", "station", "museum", "hotel") for last in range(15)]


def answers():
    """Return labels of both languages, of which a third are held out."""
    return [
        {"task": TASK.name, "label": label, "text": pattern.format(place), "language": code, "split": split}
        for code, patterns in WORDS.items()
        for pattern, label in zip(patterns, ("positive", "negative", "neutral"), strict=True)
        for place, split in zip(PLACES, ["train", "train", "val"] * 20, strict=True)
    ]


def answered(registry, encoder):
    """Return what the models that serve say of a text in each language: the label, or why there is none."""
    texts = {code: patterns[0].format("theatre") for code, patterns in WORDS.items()}
    rows = [
        {"kind": "message", "content_hash": content_hash(text), "text": text, "language": code}
        for code, text in texts.items()
    ]
    (found,) = classify([pa.RecordBatch.from_pylist(rows, schema=DOCUMENT)], serving(registry, encoder).models, encoder)
    said = [row["label"] or row["abstention"] for row in found.to_pylist()]
    return dict(zip(texts, said, strict=True))


@pytest.mark.slow
def test_a_multilingual_encoder_makes_a_task_answer_in_each_language_that_it_was_measured_in(
    lake, encoder, registry, tmp_path
):
    land(lake, encoder, answers())
    train_and_promote(TASK, lake, encoder, registry)
    assert answered(registry, encoder) == {"en": "positive", "fr": LANGUAGE}

    folder = tiny_model(tmp_path / "tiny", languages=["en", "fr"])
    configured = replace(registry, configured_encoder=files_digest(folder))
    multilingual = Encoder(registry=configured, folder=folder)
    version, verdict = train_and_promote(TASK, lake, multilingual, configured)
    assert verdict.passed, verdict.why
    assert {name for name in version.metrics if name.startswith("language_")} == {"language_en", "language_fr"}
    assert answered(configured, multilingual) == {"en": "positive", "fr": "positive"}
    # The heads of both encoders stand side by side: without the setting, all is as before.
    assert answered(registry, encoder) == {"en": "positive", "fr": LANGUAGE}
