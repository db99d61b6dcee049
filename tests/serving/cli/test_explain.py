"""`seamless explain` as a person uses it, on the lake of the samples."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resources.lakehouse.tables import Lakehouse
from serving.cli.explain import words_to_remove
from signals.classify import Model
from signals.models.encoder import DIMENSIONS
from signals.models.heads import LinearHead
from signals.models.ngrams import FEATURES, words
from signals.risks import SAFE
from signals.tasks import TASKS
from tests.support.cli import seamless

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(home: Path):
    return Lakehouse(uri=str(home / "lake"))


def explained(home, name):
    ran = seamless(home, "explain", name)
    assert (ran.returncode, ran.stderr.count("\n")) == (0, 1)
    return ran.stdout


def test_a_risky_page_is_explained_by_passage_and_words_and_by_what_would_make_it_harmless(home: Path, lake):
    pages = lake.read("silver/page_signals").filter(risk="floor").sort("url")
    page = next(row for row in pages.to_dicts() if row["risks"])
    text = explained(home, page["url"])
    assert text.startswith(f"{page['document_id']}  (page, en)\nrisk: floor\n")
    for risk in page["risks"]:
        assert f"{risk['level']} ({risk['score']:.2f})" in text
    assert "words: " in text
    assert "harmless without" in text


def test_a_harmless_page_has_topics_and_no_risk(home: Path, lake):
    page = lake.read("silver/page_signals").filter(risk="none").sort("url").to_dicts()[0]
    text = explained(home, page["document_id"])
    assert "\nrisk: none\n" in text
    assert all(f"topic: {topic['path']}" in text for topic in page["topics"])
    assert "harmless" not in text


def test_a_message_is_explained_too(home: Path, lake):
    messages = lake.read("silver/message_signals").sort("message_id").to_dicts()
    message = next(row for row in messages if row["risks"] and row["threat_risk"] not in SAFE)
    assert f"risk: {message['threat_risk']}" in explained(home, message["message_id"])


def test_a_document_that_nobody_knows_is_one_line(home: Path):
    ran = seamless(home, "explain", "https://nowhere.example/")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "seamless: no decided page or message is called https://nowhere.example/\n"


def test_a_page_with_pictures_says_what_the_worst_of_them_is(home: Path, lake):
    page = lake.read("silver/page_signals").drop_nulls("image_threat_risk").sort("url").to_dicts()[0]
    line = f"worst of {page['images']} pictures: {page['image_threat']}, {page['image_threat_risk']}"
    assert line in explained(home, page["url"])


def test_a_text_of_which_the_model_is_not_sure_is_not_yet_harmless():
    labels = TASKS["threat"].labels
    none, terrorism = labels.index("none"), labels.index("terrorism")
    weights, bias = np.zeros((FEATURES, len(labels)), np.float32), np.full(len(labels), -9.0, np.float32)
    bias[none], bias[terrorism] = 1.0, 0.0
    weights[words("bomb")[1], terrorism] = 9.0
    head = LinearHead(labels, np.zeros((DIMENSIONS, len(labels)), np.float32), weights, bias)

    def removed(sure_from):
        model = Model(TASKS["threat"], "threat", 1, "", "", replace(head, sure_from=sure_from))
        encoder = SimpleNamespace(encode=lambda texts: np.zeros((len(texts), DIMENSIONS), np.float32))
        return words_to_remove(SimpleNamespace(champion=lambda _: model, encoder=encoder), "page", "a bomb by the lake")

    assert removed(0.0) == ["bomb"]
    assert removed(0.9) == []
