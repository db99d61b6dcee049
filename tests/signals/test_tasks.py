import csv
from dataclasses import replace
from pathlib import Path

import pytest

from signals.documents.text import normalise
from signals.models.training import seed_texts
from signals.tasks import DOCUMENT_KINDS, METRICS, TASKS, Task, tasks_for

TAXONOMY = "../shared/data/iab_taxonomy/Content_Taxonomies/Content_Taxonomy_3.1.tsv"
ROOT = Path(__file__).parents[2]
RISKS = {"none", "floor", "high", "medium", "low"}


def toy(**changes):
    declared = {
        "name": "toy",
        "labels": ("no", "yes"),
        "documents": ("page",),
        "metric": "macro_f1",
        "floor": 0.5,
        "retrain_after": 10,
    }
    return Task(**(declared | changes))


def test_the_declared_tasks_are_found_by_their_names():
    assert set(TASKS) == {
        "iab_category",
        "threat",
        "sentiment",
        "emotion",
        "toxicity",
        "hate",
        "irony",
        "image_threat",
    }
    assert all(name == task.name for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_declaration_can_work(task):
    assert len(set(task.labels)) == len(task.labels) >= 2
    assert task.documents
    assert set(task.documents) <= set(DOCUMENT_KINDS)
    assert task.metric in METRICS
    assert task.metric != "f1_positive" or len(task.labels) == 2
    assert 0 < task.floor < 1
    assert task.retrain_after > 0
    assert set(task.risk.values()) <= RISKS
    assert not task.risk or set(task.risk) == set(task.labels)
    assert {label for label, level in task.risk.items() if level == "none"} == {task.nothing} - {None}
    assert not task.names or set(task.names) == set(task.labels)
    assert task.name not in task.auxiliary
    assert replace(task) == task


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_seeds_are_texts_in_their_normal_form_and_said_once(task):
    texts, labels = seed_texts(task)
    assert len(texts) == len(labels)
    assert len(set(texts)) == len(texts)
    assert all(text and normalise(text) == text for text in texts)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("sentiment", ("negative", "neutral", "positive")),
        ("emotion", ("anger", "joy", "optimism", "sadness")),
        ("toxicity", ("not-offensive", "offensive")),
        ("hate", ("not-hate", "hate")),
        ("irony", ("non_irony", "irony")),
    ],
)
def test_labels_are_those_that_predictions_are_printed_with(name, labels):
    assert TASKS[name].labels == labels


def test_pictures_have_the_threats_that_texts_have_at_the_same_risk():
    pictures, texts = TASKS["image_threat"], TASKS["threat"]
    assert {*pictures.labels} == {"safe", *texts.labels} - {"none", "spam_malware"}
    assert all(pictures.risk[label] == texts.risk[label] for label in pictures.labels[1:])


def test_topics_are_the_37_of_the_taxonomy():
    topics = TASKS["iab_category"]
    assert len(set(topics.labels)) == 37
    assert len(set(topics.names.values())) == 37
    assert all(len(topics.seeds[label]) >= 2 for label in topics.labels)


def test_topics_have_the_ids_and_names_of_the_published_taxonomy():
    path = ROOT / TAXONOMY
    if not path.exists():
        pytest.skip(f"{TAXONOMY} is not here")
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines()[1:], delimiter="\t")
    assert TASKS["iab_category"].names == {row["Unique ID"]: row["Name"] for row in rows if not row["Parent"]}


def test_a_kind_of_document_is_asked_its_tasks_only():
    assert [task.name for task in tasks_for("image")] == ["image_threat"]
    assert {task.name for task in tasks_for("message")} - {task.name for task in tasks_for("page")} == {"irony"}
    assert tasks_for("video") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "speed"},
        {"documents": ("page", "video")},
        {"names": {"maybe": "Maybe"}},
        {"seeds": {"maybe": ("a text",)}},
        {"risk": {"maybe": "high"}},
        {"auxiliary": {"other": {"theirs": "maybe"}}},
    ],
)
def test_a_declaration_that_cannot_work_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match="task toy"):
        toy(**wrong)


def test_a_plain_declaration_is_enough():
    assert toy().seeds == {}
