"""Commits that are tried again while they conflict with those of other writers."""

import random
import time
from collections.abc import Callable
from typing import Any

from deltalake.exceptions import CommitFailedError

ATTEMPTS = 8


def retried(write: Callable[[], Any]) -> Any:
    """Run a write again until its commit does not conflict; each attempt starts from the newest version."""
    for attempt in range(ATTEMPTS):
        try:
            return write()
        except CommitFailedError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")
