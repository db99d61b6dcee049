import numpy as np

from governance.gates.carry_over import answers, carry_over, texts, vectors

VECTORS = np.eye(3, dtype=np.float32)
NAMES = ["a", "b", "c"]


def decision(score, label="ham", **more):
    scores = [{"label": "ham", "score": score}, {"label": "spam", "score": 1 - score}]
    return {"document_id": "d", "label": label, "abstention": None, "scores": scores} | more


def of_task(now, times=20):
    return answers("irony", [(decision(0.7), now)] * times)


def test_what_is_the_same_passes_and_says_how_much_was_compared():
    verdict = carry_over([texts(NAMES, NAMES, NAMES), vectors(NAMES, VECTORS, VECTORS), of_task(decision(0.7))])
    assert verdict.passed
    assert verdict.why == "3 texts, 3 vectors, 20 irony"
    assert [(one.kind, one.part) for one in verdict.figures if one.kind == "task"] == [("task", "irony")]


def test_last_digits_may_differ_and_more_is_named_with_its_document():
    assert carry_over([vectors(NAMES, VECTORS, VECTORS + 1e-6), of_task(decision(0.70001))]).passed
    other = VECTORS.copy()
    other[1, 0] = 0.01
    found = carry_over([vectors(NAMES, VECTORS, other), of_task(decision(0.7))])
    assert (found.passed, found.why) == (False, "b: coordinate 0 of its vector was 0.00000, is 0.01000")
    assert not vectors(NAMES, VECTORS, VECTORS[:, :2]).identical
    for now, why in (
        (decision(0.7, "spam"), "d: irony: label was ham, is spam"),
        (decision(0.75), "d: irony: score of ham was 0.7, is 0.75"),
        (None, "d: irony: it is not answered"),
    ):
        found = carry_over([vectors(NAMES, VECTORS, VECTORS), of_task(now, 1)])
        assert (found.passed, found.why) == (False, why)
    found = carry_over([texts(NAMES, NAMES, ["a", "b", None]), vectors(NAMES, VECTORS, VECTORS)])
    assert found.why == "c: its text differs"


def test_a_task_of_few_documents_is_left_out_and_without_any_nothing_passes():
    few, enough = answers("hate", [(decision(0.7), decision(0.7))] * 19), of_task(decision(0.7))
    verdict = carry_over([vectors(NAMES, VECTORS, VECTORS), few, enough])
    assert verdict.passed
    assert {one.part for one in verdict.figures} == {"vectors", "irony"}
    assert not carry_over([vectors(NAMES, VECTORS, VECTORS), few]).passed
    assert not carry_over([vectors([], VECTORS[:0], VECTORS[:0]), enough]).passed
