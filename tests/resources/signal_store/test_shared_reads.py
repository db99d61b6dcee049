import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from resources.signal_store.entries import Alias
from resources.signal_store.shared_reads import MISSING_SECONDS, SharedReads
from tests.support.signals import NOON

HELD = Alias(NOON, "https://a.example/x")


class Store:
    """A store that holds one key, notes what it is asked, and answers when it may."""

    def __init__(self):
        self.asked, self.may, self.fault = [], Event(), None
        self.may.set()

    def get_many(self, keys):
        self.asked.append(list(keys))
        assert self.may.wait(30)
        if self.fault:
            raise self.fault
        return [HELD if key == b"held" else None for key in keys]


@pytest.fixture
def store():
    return Store()


def test_what_is_missing_is_not_read_again_for_a_while_and_what_is_held_always_is(store):
    now = [0.0]
    reads = SharedReads(store, lambda: now[0])
    for _ in range(3):
        assert reads.get_many([b"none", b"held", b"none"]) == [None, HELD, None]
    assert store.asked == [[b"none", b"held"], [b"held"], [b"held"]]
    now[0] = MISSING_SECONDS
    assert reads.get_many([b"none"]) == [None]
    assert store.asked[3:] == [[b"none"]]


def at_once(store, reads, *asked):
    """Return what several are answered who ask while the first still waits for the store."""
    store.may.clear()
    with ThreadPoolExecutor(len(asked)) as threads:
        first = threads.submit(reads.get_many, asked[0])
        while not store.asked:
            time.sleep(0.001)
        others = [threads.submit(reads.get_many, keys) for keys in asked[1:]]
        while len(store.asked) < 1 + sum(keys != asked[0] for keys in asked[1:]):
            time.sleep(0.001)
        store.may.set()
        return [one.exception() or one.result() for one in (first, *others)]


def test_who_asks_for_a_key_that_is_being_read_waits_for_that_read(store):
    same, more = [b"held", b"a"], [b"b", b"held"]
    assert at_once(store, SharedReads(store), same, same, same, more) == [[HELD, None]] * 3 + [[None, HELD]]
    assert store.asked == [same, [b"b"]]


def test_a_read_that_fails_fails_for_all_who_wait_and_for_nobody_after(store):
    reads, store.fault = SharedReads(store), ConnectionError("gone")
    assert at_once(store, reads, [b"held"], [b"held"]) == [store.fault] * 2
    store.fault = None
    assert reads.get_many([b"held"]) == [HELD]
