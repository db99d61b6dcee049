"""Bid requests of public fixtures."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import SHARED

FIXTURES = SHARED / "data/rtb_openrtb"


def fixtures() -> dict[str, Any]:
    """Return the bid requests in the public fixtures, by file and number; skip where they are not there."""
    if not FIXTURES.exists():
        pytest.skip("needs shared/data/rtb_openrtb")
    return {
        f"{file.name}:{number}": request
        for file in sorted(FIXTURES.glob("*/*.json"))
        for number, request in enumerate(_requests(json.loads(file.read_text(encoding="utf-8"))))
    }


def _requests(value: Any) -> Iterator[Any]:
    if isinstance(value, dict) and "imp" in value and "id" in value:
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _requests(inner)
