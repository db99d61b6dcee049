import pytest

from resources.signal_store import MAX_KEY, LocalStore, key_of

PAGE = {
    "tenant_id": "harbour",
    "document_id": "https://a.example/x",
    "fetched_at": "2026-11-12 10:00:00",
    "threat": "none",
}


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "signals")


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


def test_what_was_put_is_there_for_the_next_process(store, tmp_path):
    store.put([PAGE])
    store._lmdb.close()
    assert LocalStore(tmp_path / "signals").get("harbour", PAGE["document_id"]) == PAGE


def test_long_addresses_have_keys_of_their_own(store):
    pages = [PAGE | {"document_id": "https://a.example/" + "x" * 2_000 + end} for end in ("a", "b", "\ud800")]
    assert store.put(pages) == 3
    assert all(len(key_of("harbour", page["document_id"])) <= MAX_KEY for page in pages)
    assert store.get("harbour", pages[1]["document_id"])["document_id"] == pages[1]["document_id"]


def test_nothing_is_put_and_nothing_found_of_nothing(store):
    assert store.put([]) == 0
    assert store.get("", "") is None
