from datetime import UTC, datetime

import pytest

from resources.api_keys import FileKeys
from tests.support.cli import seamless


@pytest.fixture
def keys(tmp_path):
    def run(*arguments):
        ran = seamless(tmp_path, "serve", "keys", *arguments, API_KEYS=str(tmp_path / "keys.json"))
        return ran.returncode, ran.stdout.strip(), ran.stderr.strip()

    return run


def found(tmp_path, secret):
    return FileKeys(tmp_path / "keys.json").find(secret, datetime.now(UTC))


def test_a_key_is_made_replaced_with_an_overlap_and_revoked(keys, tmp_path):
    code, secret, said = keys("add", "--tenant", "harbour", "--scope", "signals")
    assert code == 0
    first = found(tmp_path, secret)
    assert first.id in said
    _, second, _ = keys("rotate", first.id)
    assert found(tmp_path, secret)
    assert found(tmp_path, second).scopes == ("signals",)
    _, third, _ = keys("rotate", found(tmp_path, second).id, "--hours", "0")
    assert found(tmp_path, second) is None
    listed = keys("list")[1].splitlines()
    assert len(listed) == 3
    assert ["until" in line or "expired" in line for line in listed] == [True, True, False]
    assert keys("revoke", found(tmp_path, third).id)[0] == 0
    assert found(tmp_path, third) is None
    assert secret not in "".join(listed)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("revoke", "12"), 1, "there is no key 12"),
        (("add", "--tenant", "t", "--role", "king"), 1, "role 'king' is unknown"),
        (("add",), 2, "tenant"),
        (("add", "--tenant", "t", "--scope", "all"), 2, "there is no scope all; there are signals"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(keys, arguments, code, told):
    got, _, said = keys(*arguments)
    assert (got, len(said.splitlines())) == (code, 1)
    assert told in said
