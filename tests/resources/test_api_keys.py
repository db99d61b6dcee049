import json
import os
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import psycopg
import pytest

from devstack import servers
from devstack.services import POSTGRES
from governance.access import AccessDeniedError
from resources import api_keys_database
from resources.api_keys import ApiKeysError, FileKeys, api_keys
from resources.settings import SettingsError, load_settings

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.slow)])
def place(request, tmp_path):
    """Return where no keys are yet, of each kind."""
    if request.param == "file":
        return str(tmp_path / "keys.json")
    address = request.getfixturevalue("postgres_server")
    with psycopg.connect(address, autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS api_keys")
    return address


def opened(place):
    return api_keys(load_settings(api_keys=place))


def held(place):
    """Return all that is held of keys, as text."""
    if "://" not in place:
        return Path(place).read_text()
    with psycopg.connect(place) as session:
        return str(session.execute("SELECT * FROM api_keys").fetchall())


@pytest.fixture
def keys(place):
    return opened(place)


@contextmanager
def following(place):
    """Yield the keys as a server sees them."""
    with closing(opened(place)) as server:
        server.start()
        yield server


def soon(holds):
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


def test_a_key_is_found_by_its_secret_which_is_kept_nowhere(keys, place):
    key, secret = keys.add("harbour", "decisioning", ("signals",))
    assert len(secret.removeprefix("smls_")) * 6 >= 128
    found = keys.find(secret, NOW)
    assert (found.id, found.tenant, found.role, found.scopes) == (key.id, "harbour", "decisioning", ("signals",))
    assert secret not in held(place)
    assert found.sha256 in held(place)
    for wrong in ("", secret[:-1], secret + "a", found.sha256, "\ud800"):
        assert keys.find(wrong, NOW) is None


def test_a_key_that_expires_overlaps_with_the_next_and_no_later_end_prolongs_it(keys):
    key, secret = keys.add("harbour", "decisioning")
    keys.expire(key.id, NOW + timedelta(hours=1))
    keys.expire(key.id, NOW + timedelta(hours=9))
    assert keys.find(secret, NOW + timedelta(minutes=59))
    assert keys.find(secret, NOW + timedelta(hours=1)) is None


def test_what_another_process_changes_counts_at_once(keys, place):
    key, secret = keys.add("harbour", "decisioning")
    with following(place) as server:
        assert server.find(secret, NOW)
        keys.revoke(key.id)
        assert soon(lambda: server.find(secret, NOW) is None)
        old, other = keys.add("harbour", "decisioning")
        assert soon(lambda: server.find(other, NOW))
        keys.expire(old.id, NOW)
        assert soon(lambda: server.find(other, NOW) is None)
        assert [one.id for one in server.all()] == [old.id]


def test_a_file_is_for_its_owner_and_one_that_is_gone_holds_no_key(tmp_path):
    keys = FileKeys(tmp_path / "keys.json")
    _, secret = keys.add("harbour", "decisioning")
    assert keys.path.stat().st_mode & 0o077 == 0
    keys.path.unlink()
    assert keys.find(secret, NOW) is None


@pytest.mark.slow
def test_keys_hold_for_a_while_where_postgres_is_gone_and_again_when_it_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr(api_keys_database, "READ_SECONDS", 0.0)
    servers.up(tmp_path, [POSTGRES])
    try:
        place = servers.environment(tmp_path, [POSTGRES])["POSTGRES_DSN"]
        _, secret = opened(place).add("harbour", "decisioning")
        with following(place) as server:
            assert server.find(secret, NOW)
            servers.down(tmp_path, [POSTGRES])
            assert server.find(secret, NOW)
            monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + api_keys_database.HOLD_SECONDS)
            with pytest.raises(ApiKeysError, match="cannot be read"):
                server.find(secret, NOW)
            servers.up(tmp_path, [POSTGRES])

            def is_back():
                try:
                    return server.find(secret, NOW)
                except ApiKeysError:
                    return None

            assert soon(is_back)
    finally:
        servers.down(tmp_path, [POSTGRES])


def test_a_database_that_does_not_answer_is_one_line_without_its_address():
    with pytest.raises(ApiKeysError, match=r"cannot be reached: \w+$"):
        opened("postgresql://me:S3cret!@127.0.0.1:1/app").all()
    with pytest.raises(SettingsError, match=r"API_KEYS: a file or postgresql://… is expected"):
        opened("redis://127.0.0.1/0")


@pytest.mark.parametrize("content", ["", "{", "[{}]", json.dumps([{"id": "a", "role": "b", "more": 1}])])
def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path, content):
    keys = FileKeys(tmp_path / "keys.json")
    _, secret = keys.add("harbour", "decisioning")
    assert keys.find(secret, NOW)
    keys.path.write_text(content)
    with pytest.raises(ApiKeysError, match="cannot be read"):
        keys.find(secret, NOW)


def test_there_is_no_key_of_a_role_that_there_is_not_and_none_to_revoke(keys):
    with pytest.raises(AccessDeniedError, match="unknown"):
        keys.add("harbour", "king")
    with pytest.raises(ApiKeysError, match="there is no key 12"):
        keys.revoke("12")
    assert keys.all() == []


def add(place, count):
    for _ in range(count):
        opened(place).add(f"tenant-{os.getpid()}", "decisioning")


def test_writers_at_once_lose_no_key(keys, place):
    workers = [get_context("fork").Process(target=add, args=(place, 10)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(keys.all()) == 40
