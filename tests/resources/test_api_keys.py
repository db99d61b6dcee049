import json
import os
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest

from governance.access import AccessDeniedError
from resources.api_keys import ApiKeys, ApiKeysError

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path):
    return ApiKeys(tmp_path / "keys.json")


def test_a_key_is_found_by_its_secret_which_is_kept_nowhere(keys):
    key, secret = keys.add("harbour", "decisioning", ("signals",))
    assert len(secret.removeprefix("smls_")) * 6 >= 128
    found = keys.find(secret, NOW)
    assert (found.id, found.tenant, found.role, found.scopes) == (key.id, "harbour", "decisioning", ("signals",))
    assert secret not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o077 == 0
    for wrong in ("", secret[:-1], secret + "a", found.sha256, "\ud800"):
        assert keys.find(wrong, NOW) is None


def test_a_key_that_expires_overlaps_with_the_next_and_no_later_end_prolongs_it(keys):
    key, secret = keys.add("harbour", "decisioning")
    keys.expire(key.id, NOW + timedelta(hours=1))
    keys.expire(key.id, NOW + timedelta(hours=9))
    assert keys.find(secret, NOW + timedelta(minutes=59))
    assert keys.find(secret, NOW + timedelta(hours=1)) is None


def test_what_another_process_changes_counts_at_once(keys):
    key, secret = keys.add("harbour", "decisioning")
    server = ApiKeys(keys.path)
    assert server.find(secret, NOW)
    keys.revoke(key.id)
    assert server.find(secret, NOW) is None
    _, other = keys.add("harbour", "decisioning")
    assert server.find(other, NOW)
    keys.path.unlink()
    assert server.find(other, NOW) is None


@pytest.mark.parametrize("content", ["", "{", "[{}]", json.dumps([{"id": "a", "role": "b", "more": 1}])])
def test_a_file_that_cannot_be_read_lets_nobody_in(keys, content):
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


def add(path, count):
    for _ in range(count):
        ApiKeys(path).add(f"tenant-{os.getpid()}", "decisioning")


def test_writers_at_once_lose_no_key(keys):
    workers = [get_context("fork").Process(target=add, args=(keys.path, 10)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(keys.all()) == 40
