"""Who asks on the command line, what it may, and what is kept of it."""

import json
from datetime import date

import polars as pl
import pytest

from governance.access import roles
from resources.api_keys import FileKeys
from resources.lakehouse.tables import Lakehouse
from resources.privacy_requests import PrivacyRequests
from tests.support.cli import seamless

DAY = date(2026, 11, 9)
SECRET = "only-for-other-eyes"
SITES = "SELECT site FROM gold.site_brand_safety WHERE site <> 'of nobody' ORDER BY ALL"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Return a folder with a lake of two tenants' rows."""
    folder = tmp_path_factory.mktemp("asking")
    made = Lakehouse(uri=str(folder / "lake"))
    rows = {"tenant_id": ["acme", "other"], "event_date": DAY, "site": ["a.example", SECRET]}
    made.replace_days("gold/site_brand_safety", [str(DAY)], pl.DataFrame(rows))
    said = {"tenant_id": ["acme"], "event_date": DAY, "message_id": ["m"], "document_id": ["m"], "author_id": ["u-1"]}
    made.replace_days("silver/messages", [str(DAY)], pl.DataFrame(said | {"text": [SECRET], "content_hash": ["c"]}))
    signals = said | {"content_hash": ["c"], "sent_at": [DAY], "language": ["en"], "threat_risk": ["none"]}
    nothing = pl.Series([[]], dtype=pl.List(pl.Struct({"category": pl.String})))
    signals |= {"threat": ["none"], "topics": nothing, "risks": nothing, "evidence": nothing}
    made.replace_days("silver/message_signals", [str(DAY)], pl.DataFrame(signals))
    return folder


@pytest.fixture
def home(lake, tmp_path):
    """Return a folder with that lake, and keys and a log of its own."""
    (tmp_path / "lake").symlink_to(lake / "lake")
    return tmp_path


def key(home, role="analyst", tenant="acme"):
    return FileKeys(home / "keys.json").add(tenant, role)[1]


def logged(home):
    return [json.loads(file.read_text()) for file in sorted((home / "access").iterdir())]


def test_the_owner_of_the_machine_is_engineer_and_the_output_says_so(home):
    ran = seamless(home, "sql", SITES, "--format", "csv")
    assert ran.stdout.split() == ["site", "a.example", SECRET]
    assert ran.stderr == "no key in SEAMLESS_KEY: the owner of this machine asks, who is engineer\n"
    (line,) = logged(home)
    assert (line["who"], line["role"], line["tenant"]) == ("the owner of this machine", "engineer", None)
    assert (line["door"], line["tables"], line["rows"]) == ("sql", ["gold/site_brand_safety"], 2)
    assert line["query"] == "SELECT site FROM gold . site_brand_safety WHERE site <> ? ORDER BY ALL"


def test_a_key_asks_as_its_role_of_its_tenant_and_nothing_says_that_it_is_the_owner(home):
    secret = key(home)
    ran = seamless(home, "sql", SITES, "--format", "csv", SEAMLESS_KEY=secret)
    assert (ran.stdout.split(), ran.stderr) == (["site", "a.example"], "")
    for asked, says in (
        (["--as", "engineer"], "has the role analyst, and may not ask as engineer"),
        (["--tenant", "other"], "reads the rows of acme"),
    ):
        refused = seamless(home, "sql", SITES, *asked, SEAMLESS_KEY=secret)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert says in refused.stderr
    assert seamless(home, "sql", SITES, SEAMLESS_KEY="smls_wrong").returncode == 1
    assert secret not in str(logged(home))


@pytest.mark.parametrize("command", ["erase --subject u-1", "export --subject u-1 --output out", "audit replay d"])
def test_what_a_role_may_not_do_it_does_not_do_and_the_attempt_is_kept(home, command):
    ran = seamless(home, *command.split(), SEAMLESS_KEY=key(home))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "role analyst may not" in ran.stderr
    assert not (home / "out").exists()
    (line,) = logged(home)
    assert (line["outcome"], line["rows"]) == ("AccessDeniedError", 0)
    assert "u-1" not in str(line)


def test_an_export_is_of_the_keys_tenant_and_is_kept_without_the_person(home):
    ran = seamless(home, "export", "--subject", "u-1", "--output", "out", SEAMLESS_KEY=key(home, "privacy", "other"))
    assert (ran.returncode, ran.stdout) == (0, "")
    mine = seamless(home, "export", "--subject", "u-1", "--output", "out", SEAMLESS_KEY=key(home, "privacy"))
    assert "silver/messages" in mine.stdout
    assert SECRET in (home / "out/silver_messages.jsonl").read_text()
    _, line = logged(home)
    assert (line["door"], line["rows"], line["tables"]) == ("export", 2, ["silver/message_signals", "silver/messages"])
    assert "u-1" not in str(line)


@pytest.mark.parametrize("role", roles())
def test_a_text_is_explained_to_who_may_read_it_and_to_nobody_else(home, role):
    ran = seamless(home, "explain", "m", SEAMLESS_KEY=key(home, role))
    if role in ("engineer", "privacy"):
        assert (ran.returncode, ran.stdout.splitlines()[1]) == (0, "risk: none"), ran
    else:
        assert (ran.returncode, ran.stdout) == (1, "")
    assert seamless(home, "explain", "m", SEAMLESS_KEY=key(home, role, "other")).returncode == 1
    assert [line["outcome"] == "answered" for line in logged(home)] == [ran.returncode == 0, False]


def test_verify_says_what_was_done_to_the_log(home):
    for _ in range(3):
        seamless(home, "sql", SITES)
    signed = {"ACCESS_LOG_KEY": "a key of the tests"}
    whole = seamless(home, "audit", "verify")
    assert (whole.returncode, whole.stdout) == (0, "3 lines, 0 faults\n")
    assert "ACCESS_LOG_KEY" in whole.stderr
    assert "not signed with this key" in seamless(home, "audit", "verify", **signed).stdout
    (home / "access/000000000003.json").unlink()
    cut = seamless(home, "audit", "verify")
    assert (cut.returncode, cut.stdout.splitlines()[0]) == (1, "line 3 is missing")
    refused = seamless(home, "sql", SITES)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is missing: see `seamless audit verify`" in refused.stderr
    assert seamless(home, "audit", "verify", SEAMLESS_KEY=key(home)).returncode == 1


def test_what_was_asked_of_the_api_is_carried_out_once_and_whom_it_was_about_is_forgotten(home):
    requests = PrivacyRequests(home / "requests")
    asked = requests.add("export", "acme", "u-1", "key 1")
    refused = [seamless(home, "privacy", SEAMLESS_KEY=key(home, role)) for role in ("analyst", "privacy")]
    assert [(ran.returncode, ran.stdout) for ran in refused] == [(1, "")] * 2
    ran = seamless(home, "privacy")
    assert ran.stdout == f"{asked.id}  export  acme\n1 requests carried out\n"
    assert SECRET in (requests.files(asked) / "silver_messages.jsonl").read_text()
    done = requests.find(asked.id, "acme")
    assert (done.subject, done.report) == (None, {"rows_exported": {"silver/message_signals": 1, "silver/messages": 1}})
    assert requests.find(asked.id, "other") is None
    assert seamless(home, "privacy").stdout == "0 requests carried out\n"
