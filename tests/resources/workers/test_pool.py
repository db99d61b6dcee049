import pytest

from resources.workers.pool import WorkerPool
from tests.support import greedy_worker


@pytest.fixture(scope="module")
def pool():
    """Return two processes that answer in capitals."""
    workers = WorkerPool(greedy_worker.__name__, 2, seconds=0.3)
    workers.start()
    yield workers
    workers.close()


@pytest.mark.parametrize("greedy", [b"memory", b"time", b"process"])
def test_what_takes_too_much_is_ended_alone(pool, greedy):
    contents = [b"a", greedy, b"b", b"c", greedy, b"d" * 1_000_000]
    answers = [one.result() for one in [pool.submit(content) for content in contents]]
    assert answers == [b"A", None, b"B", b"C", None, b"D" * 1_000_000]


def test_a_worker_that_cannot_be_loaded_says_how_to_see_why():
    with pytest.raises(RuntimeError, match=r"-m resources.workers.process tests.no_such_module 5.0 does not start"):
        WorkerPool("tests.no_such_module", 1).start()
