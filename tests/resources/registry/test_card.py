from dataclasses import replace
from datetime import UTC, datetime

from governance.gates.promotion import Figure, Verdict
from resources.registry.card import card
from resources.registry.versions import ModelVersion

FIGURE = Figure("slice", "language=en", "macro_recall", 120, 0.71, 0.7)
VERSION = ModelVersion(
    name="dev.sentiment", task="sentiment", version=3, digest="d" * 64, transform_id="t1", encoder="",
    trained_at=datetime(2026, 12, 1, tzinfo=UTC), champion=True, share=None, metrics={"macro_recall": 0.705},
    record={"version:silver/labels": "7", "rows_train": "900"}, verdict=None, events=(),
)  # fmt: skip


def test_a_card_has_what_the_registry_holds_and_says_what_it_does_not():
    text = card(VERSION)
    for part in (
        "# dev.sentiment version 3",
        "| table silver/labels | version 7 |",
        "| rows train | 900 |",
        "| macro_recall | 0.705 |",
        "licences of the texts | not recorded",
        "- gate: not judged",
        "negative, neutral, positive",
    ):
        assert part in text, part


def test_a_card_has_the_figures_of_each_slice_and_of_what_was_erased():
    judged = replace(VERSION, verdict=Verdict(passed=True, why="as it was", against=2, figures=(FIGURE,)))
    erased = replace(judged, record=VERSION.record | {"erased": "2026-12-02T00:00:00+00:00"})
    assert "| macro_recall | language=en | 0.710 | 0.700 | 120 |" in card(judged)
    assert "erased on 2026-12-02" in card(erased)


def test_a_card_of_an_encoder_has_no_task():
    assert "## Use" not in card(replace(VERSION, task="encoder", name="dev.encoder"))
