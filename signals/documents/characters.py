"""Which texts together hold every character of all: a rare one may be what a change of the transformation touches."""

from collections.abc import Sequence


def covering(texts: Sequence[str], least: int, window: int) -> list[int]:
    """Return the places of texts, in order, that hold every character of all, and of ``least`` texts at least.

    A character that any text has among its first ``window`` ones, which an encoder certainly reads, is in such a place
    of one that is chosen.
    """
    begun: set[str] = set()
    held: set[str] = set()
    chosen, others = [], []
    for place, text in enumerate(texts):
        first, whole = set(text[:window]), set(text)
        if first <= begun and whole <= held:
            others.append(place)
        else:
            chosen.append(place)
            begun |= first
            held |= whole
    return sorted(chosen + others[: max(0, least - len(chosen))])
