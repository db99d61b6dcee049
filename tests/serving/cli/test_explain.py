"""`seamless explain` as a person uses it, on the lake of the samples."""

from pathlib import Path

import pytest

from resources.lakehouse.tables import Lakehouse
from signals.risks import SAFE
from tests.support.cli import seamless

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(home: Path):
    return Lakehouse(uri=str(home / "lake"))


def explained(home, name):
    ran = seamless(home, "explain", name)
    assert (ran.returncode, ran.stderr) == (0, "")
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
