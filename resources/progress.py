"""How far the long work of this process is: whatever does it reports here, and whatever shows it reads here."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

Report = Callable[[int, int], None]


@dataclass
class Work:
    """A piece of work.

    Attributes:
        name: what is done, such as ``encode texts``.
        done: how much of it; more than ``first``, which it began with.
        total: how much there is; 0 while that is not known.
        seconds: until ``done``.
    """

    name: str
    first: int = 0
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at the rate so far; None while nothing is done."""
        new = self.done - self.first
        return self.seconds / new * (self.total - self.done) if new else None


_under_way: list[Work] = []


def under_way() -> Work | None:
    """Return what is done now, the innermost of it; None if nothing says so."""
    return _under_way[-1] if _under_way else None


@contextmanager
def work(name: str) -> Generator[Report]:
    """Say that work goes on; yield what is called with how much is done, and of how much."""
    one = Work(name)

    def report(done: int, total: int) -> None:
        if not one.total:
            one.first, one.began = done, time.monotonic()
        one.done, one.total, one.seconds = done, total, time.monotonic() - one.began

    _under_way.append(one)
    try:
        yield report
    finally:
        _under_way.remove(one)
