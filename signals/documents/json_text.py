"""JSON as text, into which some members are put: every other character stays as it is.

What is parsed and written again loses spellings: 1.10, 1e400, long integers, escapes, repeated names.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

BLANK = re.compile(r"[ \t\n\r]*")


class Edit(NamedTuple):
    """Text that is put at a place of another text."""

    at: int
    text: str


def parsed(text: str) -> Any:
    """Return what JSON says; of members of one name, the last counts.

    Raises:
        ValueError: the text is no JSON, nested too deep, or has an integer of over 4,300 digits.
    """
    try:
        return DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def members(text: str, start: int) -> dict[str, tuple[int, int]]:
    """Return where the values of an object begin and end, by name; of members of one name, the last.

    Args:
        text: valid JSON.
        start: where the object begins, at its brace.
    """
    found = {}
    at = _after_blank(text, start + 1)
    while text[at] != "}":
        name, at = DECODER.raw_decode(text, at)
        at = _after_blank(text, _after_blank(text, at) + 1)
        _, end = DECODER.raw_decode(text, at)
        found[name] = (at, end)
        at = _after_blank(text, end)
        at = _after_blank(text, at + 1) if text[at] == "," else at
    return found


def with_members(text: str, start: int, values: Mapping[str, Any]) -> Edit:
    """Return the edit that gives an object more members, after its own.

    Args:
        text: valid JSON.
        start: where the object begins, at its brace.
        values: the members; none that it has.
    """
    own = members(text, start)
    new = ",".join(f"{json.dumps(name)}:{_written(value)}" for name, value in values.items())
    last = max((end for _, end in own.values()), default=start + 1)
    return Edit(last, f",{new}" if own and new else new)


def with_items(text: str, end: int, values: Sequence[Any], *, empty: bool) -> Edit:
    """Return the edit that gives a list more items, after its own.

    Args:
        text: valid JSON.
        end: where the list ends, after its bracket.
        values: the items.
        empty: the list has none of its own.
    """
    last = len(text[: end - 1].rstrip())
    new = ",".join(map(_written, values))
    return Edit(last, new if empty or not new else f",{new}")


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return a text after edits at different places."""
    for at, new in sorted(edits, reverse=True):
        text = f"{text[:at]}{new}{text[at:]}"
    return text


def _written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _after_blank(text: str, at: int) -> int:
    found = BLANK.match(text, at)
    return found.end() if found else at


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_constant)
