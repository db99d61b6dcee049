"""A text in passages, each about as long as an encoder reads at once."""

import re
from typing import NamedTuple

# An encoder reads 96 tokens, which are some 450 characters of English.
LENGTH = 480
# A passage ends at the best of these in its second half: a line, a sentence, a word.
ENDS = (re.compile(r"\n"), re.compile(r"[.!?…。！？]+[\"'”’)\]]*\s?"), re.compile(r"\s"))


class Passage(NamedTuple):
    """Part of a text, from one character up to another."""

    start: int
    end: int


def passages(text: str) -> list[Passage]:
    """Return the passages of a text, in order: together they are the text."""
    found, start = [], 0
    while len(text) - start > LENGTH:
        end = _end(text, start + LENGTH // 2, start + LENGTH)
        found.append(Passage(start, end))
        start = end
    return [*found, Passage(start, len(text))]


def lead(text: str) -> Passage:
    """Return the first passage of a text."""
    return passages(text[: LENGTH + 1])[0]


def _end(text: str, first: int, last: int) -> int:
    for ends in ENDS:
        matches = [match.end() for match in ends.finditer(text, first, last)]
        if matches:
            return matches[-1]
    return last
