from contextlib import closing
from datetime import timedelta
from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.signal_store.entries import keys_of, put_page
from resources.signal_store.look_up import look_up
from resources.signal_store.stores import LocalStore
from tests.support.signals import NOON, record

NOW = NOON + timedelta(days=1)
SEEN, OWN = "https://www.a.example/story?id=7&utm_source=mail", "https://a.example/stories/7"


@pytest.fixture
def store(tmp_path):
    with closing(LocalStore(tmp_path)) as found:
        yield found


def one(store, url, *, tenant="harbour", now=NOW, **more):
    (answer,) = look_up(store, tenant, [url], now, **more)
    return answer


def of(answer):
    return msgspec.json.decode(answer.signals)


@pytest.mark.parametrize(
    "asked",
    [
        OWN,
        f"{OWN}?fbclid=1#top",
        f"{OWN}/amp/",
        "http://m.a.example/stories/7",
        SEEN,
        "https://www.a.example/story?id=7",
        "https://a-example.cdn.ampproject.org/c/s/a.example/stories/7",
    ],
)
def test_a_page_answers_under_its_own_and_every_seen_address_in_every_form(store, asked):
    store.put([record(SEEN, of=OWN)])
    answer = one(store, asked)
    assert (answer.url, answer.status, answer.age) == (asked, "current", 86_400)
    assert of(answer)["document_id"] == OWN
    assert (answer.as_of, answer.expires_at) == (NOON, NOON + timedelta(days=30))


def test_another_page_of_the_site_is_answered_by_what_is_known_of_the_site_marked(store):
    store.put(
        [
            record("https://a.example/1", risk="low"),
            record("https://www.a.example/2", risk="floor", topics=[{"id": "1"}]),
            record("https://a.example/3", risk="unknown"),
            record("https://a.example/old", risk="floor", at=NOON - timedelta(days=40)),
        ]
    )
    answer = one(store, "https://m.a.example/4")
    assert answer.status == "site"
    topics = [{"id": "239", "share": 0.667}, {"id": "1", "share": 0.333}]
    assert of(answer) == {"site": "a.example", "pages": 3, "risk": "floor", "topics": topics}
    for unknown in ("https://b.example/4", "no address", "", "https://a.example.b.example/1"):
        assert (one(store, unknown).status, of(one(store, unknown))) == ("unknown", None)
    assert one(store, "https://a.example/1", tenant="meridian").status == "unknown"


def test_what_has_expired_is_returned_as_such_or_not_at_all(store):
    store.put([record()])
    later = NOON + timedelta(days=30)
    assert one(store, record()["url"], now=later).status == "expired"
    assert one(store, record()["url"], now=later, expired=False).status == "unknown"
    assert one(store, record()["url"], now=later - timedelta(seconds=1), expired=False).status == "current"


def test_a_page_that_moves_is_found_under_where_it_was(store):
    first, second, third = (f"https://a.example/{name}" for name in ("first", "second", "third"))
    store.put([record(first), record(first, of=second, at=NOON + timedelta(hours=1))])
    store.put([record(second, of=third, at=NOON + timedelta(hours=2), title="moved")])
    assert [of(answer)["title"] for answer in look_up(store, "harbour", [first, second, third], NOW)] == ["moved"] * 3


ADDRESSES = st.sampled_from([f"https://{form}a.example/{page}" for form in ("", "www.") for page in "123"])
PUTS = st.lists(st.tuples(ADDRESSES, ADDRESSES), max_size=4)


@given(PUTS)
def test_what_is_held_does_not_depend_on_the_order_of_puts(puts):
    records = [record(url, of=own, at=NOON + timedelta(seconds=n)) for n, (url, own) in enumerate(puts)]
    states = []
    for order in permutations(records):
        held = {}
        for one in order:
            held |= dict.fromkeys(keys_of(one)) | held
            put_page(held, one)
        states.append(held)
    assert all(state == states[0] for state in states)
