import numpy as np
import pytest

from signals.models.encoder import DIMENSIONS
from signals.models.heads import LinearHead
from signals.models.ngrams import FEATURES, ngrams, words
from signals.models.page_reading import READ, PageReading, telling_words

CALM = "The lake lay still and the garden was green in the long evening light of June. "
ALARM = "bomb "


@pytest.fixture
def head():
    """Return a head to which one word says all."""
    (_, columns), weights = words("bomb"), np.zeros((FEATURES, 2), np.float32)
    weights[columns, 1] = 60
    bias = np.array([4, 0], np.float32)
    nothing = np.zeros((DIMENSIONS, 2), np.float32)
    return LinearHead(("none", "terrorism"), nothing, weights, bias, screen_weights=weights, screen_bias=bias)


def read(head, *texts):
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return np.zeros((len(texts), DIMENSIONS), np.float32)

    lead = head.scores(np.zeros((len(texts), DIMENSIONS), np.float32), ngrams([text[:400] for text in texts]))
    scores, evidence = PageReading(list(texts)).worst(head, lead, 0, encode)
    return scores, evidence, encoded, lead


def test_a_page_is_as_bad_as_its_worst_passage_and_says_which(head):
    text = CALM * 60 + ALARM * 8 + CALM * 60
    scores, evidence, encoded, lead = read(head, text, CALM, CALM * 90)
    assert lead[0].argmax() == 0
    assert scores[0].argmax() == 1
    passage = evidence[0, 1].passage
    assert ALARM in text[passage.start : passage.end]
    assert evidence[0, 1].share < 0.05
    assert np.array_equal(scores[1:], lead[1:])
    assert set(evidence) == {(0, 1)}
    assert all(ALARM in passage for passage in encoded), "what the cheap pass finds harmless is not encoded"


def test_so_many_passages_of_a_page_are_encoded_at_most(head):
    scores, _, encoded, _ = read(head, (CALM * 6 + ALARM * 20) * 12, (CALM * 6 + ALARM * 20) * 9)
    assert len(encoded) == 2 * READ
    assert (scores.argmax(axis=1) == 1).all()


def test_one_alarm_counts_less_the_more_passages_there_are(head):
    few, many = (read(head, CALM * n + ALARM * 8 + CALM * n)[0][0, 1] for n in (10, 200))
    assert few > many


def test_the_words_that_carry_a_label_are_named_without_those_that_any_text_has(head):
    assert telling_words(head, "The bomb and the lake's 100 boats", 1, 0) == ["bomb"]
    assert telling_words(head, "", 1, 0) == []
