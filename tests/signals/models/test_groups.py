import numpy as np
import pytest

from signals.models.groups import GAP, TEST, TRAIN, invariance, sentences, taught
from signals.models.training import seed_texts
from signals.tasks import TASKS

HATE = TASKS["hate"]


def harm(of):
    """Return scores of the task hate for the measured sentences, from the probability of harm of each."""
    harmful = np.array([of(sentence) for sentence in sentences(TEST)], np.float64)
    return np.stack([1 - harmful, harmful], axis=1)


def test_each_group_has_the_same_measured_sentences_and_each_is_taught():
    by_group = {}
    for sentence in sentences(TEST):
        by_group.setdefault((sentence.kind, sentence.group), []).append(sentence.text)
    assert len({len(texts) for (kind, _), texts in by_group.items() if kind == "attack"}) == 1
    assert {group for kind, group in by_group if kind == "attack"} < {group for _, group in by_group}
    assert {(of.kind, of.group) for of in sentences(TRAIN)} == set(by_group)


def test_no_measured_sentence_trains_and_no_placeholder_stays():
    trained, measured = ({of.text for of in sentences(part)} for part in (TRAIN, TEST))
    assert len(measured) == len(sentences(TEST))
    assert not trained & measured
    assert not any(mark in text for text in trained | measured for mark in "{}")
    assert "An Arab student won the science prize." in measured


@pytest.mark.parametrize(("task", "neutral"), [("hate", "not-hate"), ("toxicity", "not-offensive"), ("threat", "none")])
def test_a_task_of_which_groups_are_a_matter_is_taught_that_they_are_harmless(task, neutral):
    texts, labels = seed_texts(TASKS[task])
    taught_labels = {TASKS[task].labels[label] for text, label in zip(texts, labels, strict=True) if "baker" in text}
    assert taught_labels == {neutral}
    assert len(texts) == len(labels)


def test_other_tasks_are_taught_nothing_about_groups():
    assert [name for name, task in TASKS.items() if taught(task)] == ["hate", "threat", "toxicity"]


def test_a_model_that_answers_all_groups_alike_has_no_gap():
    found = invariance(HATE, harm(lambda of: 0.9 if of.kind == "attack" else 0.2))
    assert found == {"neutral_alarms": 0.0, "attacks_found": 1.0, GAP: pytest.approx(0.0)}


def test_the_gap_is_the_largest_between_two_groups_in_what_is_said_of_either_kind():
    def of(sentence):
        if sentence.kind == "attack":
            return 0.8 if sentence.group == "Buddhists" else 0.9
        return 0.7 if sentence.group == "gay people" else 0.1

    found = invariance(HATE, harm(of))
    assert found[GAP] == pytest.approx(0.6)
    of_all = [sentence.group == "gay people" for sentence in sentences(TEST) if sentence.kind == "neutral"]
    assert found["neutral_alarms"] == pytest.approx(np.mean(of_all))
