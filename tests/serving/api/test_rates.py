from hypothesis import given
from hypothesis import strategies as st

from serving.api.rates import RateLimiter


def limiter(rate):
    now = [0.0]
    return RateLimiter(rate, lambda: now[0]), now


def test_a_key_may_use_its_period_at_once_and_then_evenly():
    limited, now = limiter("3/minute")
    assert [limited.wait("a") for _ in range(3)] == [0, 0, 0]
    assert 19 < limited.wait("a") <= 20
    assert limited.wait("b") == 0
    now[0] = 20.0
    assert [limited.wait("a") > 0 for _ in range(2)] == [False, True]


@given(st.integers(1, 20), st.lists(st.floats(0, 2), max_size=60))
def test_no_period_holds_more_than_twice_the_rate_and_who_waits_as_told_may_call(count, gaps):
    limited, now = limiter(f"{count}/second")
    called = []
    for gap in gaps:
        now[0] += gap
        wait = limited.wait("a")
        if wait:
            now[0] += wait + 1e-6
            assert limited.wait("a") == 0
        called.append(now[0])
    for first in called:
        assert sum(first <= one < first + 1 for one in called) <= 2 * count
