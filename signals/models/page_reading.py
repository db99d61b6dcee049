"""A long page to one answer: a cheap pass over all of its passages, then the encoder on the most telling of them.

The lead is read as a short text is. Of each other passage that is read, the probability of a label is the mean, in log
odds, of what the head and its screen say. A page of many passages has many chances of a false alarm: its odds are
divided by a power of their number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from signals.documents.passages import Passage, passages
from signals.features.keywords import STOP_WORDS
from signals.models.heads import Floats, LinearHead
from signals.models.ngrams import ngrams, words

# Passages beside the lead that the encoder reads.
READ = 2
# See benchmarks/page_reading.py: of 100 long pages of harmless articles 9 are risky. 15 were, by the lead alone, before
# harmless topics taught; each step up to 1.0 finds fewer threats and spares hardly a harmless page.
DISCOUNT = 0.35
# A passage carries a label from here on. One that carries none by the cheap pass is not encoded: with the models of the
# public corpora nothing was lost by that, and a tenth of the passages of articles is encoded that 0.1 would have.
CARRIES = 0.5
WORDS = 5
Scores = npt.NDArray[np.float64]
Encode = Callable[[list[str]], Floats]


@dataclass(frozen=True)
class Evidence:
    """What carried a label.

    Attributes:
        passage: of the text, the one that it is surest in.
        share: of the passages, those that carry it by the cheap pass; None where the lead carries it.
    """

    passage: Passage
    share: float | None


class PageReading:
    """Texts in passages, with the n-grams of each: made once for all models."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.spans = [passages(text) for text in texts]
        places = [(row, span) for row, spans in enumerate(self.spans) if len(spans) > 1 for span in spans]
        self.owners = np.array([row for row, _ in places], np.int64)
        self.places = [span for _, span in places]
        self.parts = [texts[row][span.start : span.end] for row, span in places]
        self.grams: Any = ngrams(self.parts)

    def worst(
        self, head: LinearHead, lead: Scores, nothing: int, encode: Encode, read: int = READ
    ) -> tuple[Scores, dict[tuple[int, int], Evidence]]:
        """Return the scores of pages that are each as bad as their worst passage.

        Args:
            head: with a screen.
            lead: (texts, labels), the scores of each text read as a short one.
            nothing: column of the label that says that there is nothing.
            encode: the encoder.
            read: passages of a text that it reads beside the lead.

        Returns:
            (texts, labels), rows of which sum to one for texts of one passage only; and by row and column what carried
            each label that is more likely in a passage than in the lead.
        """
        scores, evidence = lead.copy(), dict[tuple[int, int], Evidence]()
        if not self.parts:
            return scores, evidence
        screened = head.screened(self.grams)
        chosen = _most_telling(self.owners, np.delete(screened, nothing, axis=1).max(axis=1), read)
        if not len(chosen):
            return scores, evidence
        encoded = head.scores(encode([self.parts[place] for place in chosen]), self.grams[chosen])
        counts = np.bincount(self.owners, minlength=len(self.texts))
        odds = (_log_odds(encoded) + _log_odds(screened[chosen])) / 2
        found = 1 / (1 + np.exp(DISCOUNT * np.log(counts[self.owners[chosen]])[:, None] - odds))
        for place, row_scores in zip(chosen, found, strict=True):
            row = self.owners[place]
            for column in np.flatnonzero(row_scores > scores[row]):
                if column != nothing:
                    scores[row, column] = row_scores[column]
                    carried = (screened[self.owners == row, column] >= CARRIES).sum()
                    share = max(int(carried), 1) / int(counts[row])
                    evidence[int(row), int(column)] = Evidence(self.places[place], share)
        for row in {row for row, _ in evidence}:
            others = np.delete(scores[row], nothing).max()
            scores[row, nothing] = min(scores[row, nothing], 1 - others)
        return scores, evidence


def telling_words(head: LinearHead, text: str, label: int, nothing: int | None) -> list[str]:
    """Return the words of a text that speak most for a label, surest first.

    They are those of the greatest weight in the head's linear part, without numbers and stop words. What the vector,
    pairs of words and parts of words add is left out.
    """
    weights = head.ngram_weights if head.screen_weights is None else head.screen_weights
    found, columns = words(text)
    against = weights[columns].mean(axis=1) if nothing is None else weights[columns, nothing]
    gains = weights[columns, label] - against
    order = np.argsort(-gains, kind="stable")
    telling = (found[place] for place in order if gains[place] > 0)
    return [word for word in telling if len(word) > 1 and not word.isdigit() and word not in STOP_WORDS][:WORDS]


def _most_telling(owners: npt.NDArray[np.int64], telling: npt.NDArray[np.float64], read: int) -> npt.NDArray[np.int64]:
    """Return the places of the passages of each text that are the most telling, in their order."""
    order = np.lexsort((np.arange(len(owners)), -telling, owners))
    rank = np.arange(len(order)) - np.searchsorted(owners[order], owners[order])
    chosen = order[rank < read]
    return np.sort(chosen[telling[chosen] >= CARRIES])


def _log_odds(scores: Scores) -> Scores:
    clipped = np.clip(scores, 1e-9, 1 - 1e-9)
    return np.log(clipped / (1 - clipped))
