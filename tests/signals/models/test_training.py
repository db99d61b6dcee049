from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from signals.documents.text import content_hash
from signals.models import training
from signals.models.ngrams import ngrams
from signals.models.training import NotEnoughLabelsError, language_metrics, seed_texts, train
from signals.tasks import Task

SPORT = ["striker", "goalkeeper", "midfielder", "coach", "defender", "captain", "referee", "winger"]
FOOD = [
    "tomato soup",
    "lentil curry",
    "apple pie",
    "garlic bread",
    "mushroom stew",
    "rice salad",
    "plum jam",
    "noodles",
]
MONEY = ["bank", "insurer", "lender", "broker", "steel maker", "airline", "retailer", "pension fund"]
SAYINGS = {
    "sport": ("The {} trained hard before the cup final.", "Fans cheered when the {} ran onto the pitch.", SPORT),
    "food": ("Simmer the {} gently and season with pepper.", "My grandmother's recipe for {} never fails.", FOOD),
    "money": (
        "Shares of the {} fell after quarterly earnings.",
        "The {} raised its dividend and profit outlook.",
        MONEY,
    ),
}
NOW = datetime(2026, 11, 10, tzinfo=UTC)


def task(**changes):
    declared = {
        "name": "toy",
        "labels": ("sport", "food", "money"),
        "documents": ("page",),
        "metric": "macro_f1",
        "floor": 0.5,
        "retrain_after": 10,
    }
    return Task(**(declared | changes))


def frame(rows):
    """Return what ``examples`` does, from (text, label, split)."""
    schema = {"content_hash": pl.String, "text": pl.String, "label": pl.String, "split": pl.String}
    frame = pl.DataFrame(
        [(content_hash(text), text, label, split) for text, label, split in rows], schema, orient="row"
    )
    return frame.with_columns(language=pl.lit("en"))


def said(labels=tuple(SAYINGS), held_out=2):
    """Return rows of sayings, the last ``held_out`` words of each label being held out."""
    rows = []
    for label in labels:
        *patterns, words = SAYINGS[label]
        splits = ["train"] * (len(words) - held_out) + ["val"] * held_out
        rows += [(p.format(word), label, s) for word, s in zip(words, splits, strict=True) for p in patterns]
    return rows


@pytest.fixture(scope="module")
def taught(encoder):
    def teach(asked, rows):
        seeds, _ = seed_texts(asked)
        vectors = encoder.encode(rows["text"].to_list())
        return train(asked, rows, vectors, encoder.encode(seeds))

    return teach


@pytest.fixture(scope="module")
def model(taught):
    return taught(task(), frame(said()))


def answer(head, encoder, text):
    scores = head.scores(encoder.encode([text]), ngrams([text]))[0]
    return head.labels[scores.argmax()]


def test_a_separable_problem_is_learned(model, encoder):
    assert model.metrics["macro_f1"] == 1.0
    assert model.metrics["rows"] == 12
    assert model.rows == {"train": 36, "val": 12, "seeds": 0}
    assert model.strength in training.STRENGTHS
    assert model.head.labels == ("sport", "food", "money")
    assert answer(model.head, encoder, "The coach praised the goalkeeper after the match.") == "sport"
    assert answer(model.head, encoder, "Stir the soup and add garlic.") == "food"


def test_the_same_rows_give_the_same_weights_to_the_bit(model, taught):
    again = taught(task(), frame(said()))
    assert again.metrics == model.metrics
    assert again.head.temperature == model.head.temperature
    for name in ("vector_weights", "ngram_weights", "bias"):
        assert getattr(again.head, name).tobytes() == getattr(model.head, name).tobytes()


def test_the_figures_are_those_of_the_held_out_rows_only(taught):
    swapped = {"sport": "food", "food": "money", "money": "sport"}
    wrong = [(text, swapped[label] if split == "val" else label, split) for text, label, split in said()]
    assert taught(task(), frame(wrong)).metrics["accuracy"] == 0.0


def test_labels_with_seeds_alone_are_answered_and_labels_with_nothing_never_win(taught, encoder):
    pets = ("Dogs, cats and other pets", "Our kitten sleeps beside the old dog.", "The vet examined a sick puppy.")
    asked = task(
        labels=("sport", "food", "money", "pets", "law"), seeds={"pets": pets, "sport": ("Football and cups",)}
    )
    found = taught(asked, frame(said()))
    assert found.metrics["macro_f1"] == 1.0
    assert found.rows["seeds"] == 4
    assert answer(found.head, encoder, "The vet said our dog and cat are healthy.") == "pets"
    texts = ["The judge ruled that the law applies in court.", "", "zzz", *(text for text, _, _ in said())]
    scores = found.head.scores(encoder.encode(texts), ngrams(texts))
    law = asked.labels.index("law")
    assert (scores.argmax(axis=1) != law).all()
    assert (scores[:, law] < 1e-3).all()


def test_two_labels_of_many_can_be_learned(taught, encoder):
    found = taught(task(), frame(said(("sport", "money"))))
    assert found.metrics["accuracy"] == 1.0
    assert answer(found.head, encoder, "Simmer the stew and season it.") != "food"


def noisy(rows, share):
    """Give some training and held-out rows a wrong label, so that a confident head is too confident."""
    labels = list(SAYINGS)
    rng = np.random.default_rng(3)
    return [(text, labels[rng.integers(3)] if rng.random() < share else label, split) for text, label, split in rows]


def test_calibration_reduces_log_loss(taught, encoder):
    rows = frame(noisy(said(held_out=4), 0.6))
    found = taught(task(), rows)
    held_out = rows.filter(pl.col("split") == "val")
    vectors, texts = encoder.encode(held_out["text"].to_list()), held_out["text"].to_list()
    answers = np.array([task().labels.index(label) for label in held_out["label"]])

    def log_loss(head):
        return -np.log(head.scores(vectors, ngrams(texts))[np.arange(len(answers)), answers]).mean()

    assert found.head.temperature != 1.0
    assert log_loss(found.head) < log_loss(replace(found.head, temperature=1.0))


def test_many_rows_are_calibrated_on_rows_that_the_fit_has_not_seen(taught, encoder, monkeypatch):
    monkeypatch.setattr(training, "TUNING_ROWS", 20)
    found = taught(task(), frame(said()))
    assert found.metrics["macro_f1"] > 0.9
    assert found.rows["train"] == 36
    assert answer(found.head, encoder, "The coach praised the goalkeeper after the match.") == "sport"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("a tale of sport", "sport", "val")],
        [("one", "sport", "train"), ("two", "sport", "train"), ("three", "food", "val")],
        [("one", "sport", "train"), ("two", "food", "train")],
        [("one", "sport", "train"), ("two", "food", "train"), ("three", "food", "val")],
        [("one", "sport", "train"), *((f"{i}", "food", "train") for i in range(5)), ("x", "food", "val")],
    ],
    ids=["none", "held out only", "one label", "nothing held out", "two rows", "one row of a label"],
)
def test_too_few_labels_make_no_model(taught, rows):
    with pytest.raises(NotEnoughLabelsError, match=r"held-out|two labels"):
        taught(task(), frame(rows))


def test_an_auxiliary_row_counts_as_much_as_the_task_says(taught):
    wrong = {"sport": "food", "food": "money", "money": "sport"}
    lent = [(f"{text} Really.", wrong[label], "auxiliary") for text, label, split in said() if split == "train"]
    found = {
        weight: taught(task(auxiliary_weight=weight), frame(said() + lent)).metrics["macro_f1"]
        for weight in (0.1, 10.0)
    }
    assert found[0.1] > 0.8
    assert found[10.0] < 0.2


def test_a_head_answers_the_languages_that_it_was_measured_on_and_no_worse_than_the_floor():
    rows = [(code, right) for code, share in (("en", 55), ("fr", 50), ("de", 10)) for right in [True] * share]
    rows += [("en", False)] * 5 + [("it", False)] * 60 + [("es", True)] * 49 + [(None, True)] * 90
    scores = np.array([[0.9, 0.1] if right else [0.1, 0.9] for _, right in rows])
    languages = pl.Series("language", [code for code, _ in rows])
    of_two = task(labels=("sport", "food"), metric="accuracy")
    found = language_metrics(of_two, scores, np.zeros(len(rows), int), languages)
    assert found == {"en": pytest.approx(55 / 60), "fr": 1.0, "it": 0.0}
    assert list(language_metrics(of_two, scores[:3], np.zeros(3, int), languages[:3])) == ["en"]


def test_a_model_leaves_out_what_it_is_least_sure_of_until_it_is_as_precise_as_its_task_asks(taught):
    rows = frame(noisy(said(held_out=4), 0.4))
    every, few = (taught(task(precision=precision), rows) for precision in (0.0, 1.0))
    assert every.head.sure_from == 0.0
    assert every.metrics["coverage"] == 1.0
    assert every.metrics["precision"] == pytest.approx(every.metrics["accuracy"])
    assert few.head.sure_from > 0.3
    assert sum(few.answers.values()) == round(few.metrics["coverage"] * few.rows["val"])
