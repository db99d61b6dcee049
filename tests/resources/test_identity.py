from datetime import UTC, datetime, timedelta

import pytest

from governance.access import AccessDeniedError, Identity
from resources.api_keys import FileKeys
from resources.identity import OWNER, UnknownKeyError, identity
from resources.settings import load_settings

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def asks(tmp_path, secret):
    return identity(load_settings(api_keys=str(tmp_path / "keys.json"), seamless_key=secret), NOW)


def test_a_key_is_its_tenant_and_role_and_without_one_the_owner_is_engineer(tmp_path):
    key, secret = FileKeys(tmp_path / "keys.json").add("acme", "analyst")
    assert asks(tmp_path, secret) == Identity(f"key {key.id}", "analyst", "acme")
    assert asks(tmp_path, None) == OWNER
    assert OWNER.role == "engineer"


def test_a_key_that_is_none_is_refused_and_is_not_the_owner(tmp_path):
    keys = FileKeys(tmp_path / "keys.json")
    key, secret = keys.add("acme", "engineer")
    keys.expire(key.id, NOW - timedelta(seconds=1))
    for wrong in (secret, "smls_nothing", ""):
        with pytest.raises(UnknownKeyError, match="unknown, revoked or expired"):
            asks(tmp_path, wrong)


@pytest.mark.parametrize(
    ("who", "role", "tenant", "then"),
    [
        (OWNER, None, None, ("engineer", None)),
        (OWNER, "analyst", "acme", ("analyst", "acme")),
        (Identity("k", "analyst", "acme"), None, None, ("analyst", "acme")),
        (Identity("k", "analyst", "acme"), "analyst", "acme", ("analyst", "acme")),
        (Identity("k", "engineer", "acme"), "support", None, ("support", "acme")),
    ],
)
def test_an_identity_may_ask_for_less(who, role, tenant, then):
    asks = who.narrowed(role, tenant)
    assert (asks.name, asks.role, asks.tenant) == (who.name, *then)


@pytest.mark.parametrize(
    ("who", "role", "tenant", "says"),
    [
        (Identity("k", "analyst", "acme"), "engineer", None, "may not ask as engineer"),
        (Identity("k", "analyst", "acme"), "support", None, "may not ask as support"),
        (Identity("k", "privacy", None), "engineer", None, "may not ask as engineer"),
        (Identity("k", "engineer", "acme"), None, "other", "no other tenant"),
        (Identity("k", "analyst", "acme"), None, "other", "no other tenant"),
        (OWNER, "analyst", None, "--tenant"),
        (OWNER, "nobody", None, "is unknown"),
    ],
)
def test_an_identity_may_not_ask_for_more(who, role, tenant, says):
    with pytest.raises(AccessDeniedError, match=says):
        who.narrowed(role, tenant)


def test_only_roles_that_may_erase_erase():
    for role in ("engineer", "privacy"):
        Identity("k", role, "acme").require("erase")
    for role in ("analyst", "ml"):
        with pytest.raises(AccessDeniedError, match="of one of these roles may: engineer, privacy"):
            Identity("k", role, "acme").require("erase")
