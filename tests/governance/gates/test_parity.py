import numpy as np
import pytest

from governance.gates.parity import parity, policy

CLOSE = np.full(100, 0.995)


def changed(rows, count=100):
    labels = np.arange(count) % 3
    other = labels.copy()
    other[:rows] += 1
    return labels, other


def test_precisions_that_answer_alike_pass_and_the_figures_say_how_much():
    verdict = parity(CLOSE, {"irony": changed(0), "hate": changed(3)})
    assert verdict.passed
    assert [(one.part, one.name, one.rows, one.challenger) for one in verdict.figures] == [
        ("all", "mean", 100, 0.995),
        ("all", "least", 100, 0.995),
        ("irony", "same labels", 100, 1.0),
        ("hate", "same labels", 100, 0.97),
    ]
    assert parity(CLOSE, {"irony": changed(1, policy().least_texts)}).passed, "one text may always differ"


@pytest.mark.parametrize(
    ("cosines", "labels", "why"),
    [
        (CLOSE, {"irony": changed(0), "hate": changed(4)}, "hate gives 96.0% of its texts the same label, not 97%"),
        (CLOSE, {"irony": changed(0, 19)}, "irony has 19 held-out texts of 20"),
        (CLOSE, {"irony": changed(0, 0)}, "irony has 0 held-out texts of 20"),
        (np.append(CLOSE, 0.5), {"irony": changed(0)}, "least cosine 0.5000 is below 0.9"),
        (CLOSE * 0.98, {"irony": changed(0)}, "mean cosine 0.9751 is below 0.98"),
        (np.append(CLOSE, np.nan), {"irony": changed(0)}, "mean cosine nan"),
        (np.empty(0), {}, "no held-out text was compared"),
        (CLOSE, {}, "no held-out text was compared"),
    ],
)
def test_it_fails_closed_and_says_why(cosines, labels, why):
    verdict = parity(cosines, labels)
    assert not verdict.passed
    assert why in verdict.why
