"""How often each key may call: the generic cell rate algorithm, of one number a key."""

import time
from collections.abc import Callable

PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0}


class RateLimiter:
    """Lets each key call so many times a period, evenly or at once.

    Args:
        rate: such as ``2000/second``.
        clock: returns the time in seconds.
    """

    def __init__(self, rate: str, clock: Callable[[], float] = time.monotonic) -> None:
        count, _, period = rate.partition("/")
        self._period, self._clock = PERIODS[period], clock
        self._interval = self._period / int(count)
        # When each key will have used up what it has called.
        self._until: dict[str, float] = {}

    def wait(self, key: str) -> float:
        """Return 0 and count a call of a key, or the seconds until it may call again."""
        now = self._clock()
        until = max(self._until.get(key, now), now) + self._interval
        # A billionth is for the rounding of sums.
        over = until - now - self._period * (1 + 1e-9)
        if over <= 0:
            self._until[key] = until
        return max(over, 0.0)
