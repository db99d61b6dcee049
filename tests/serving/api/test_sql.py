"""SQL and requests of persons, asked of a server of a test's own."""

import json
from datetime import date

import polars as pl
import pytest

from resources.lakehouse.tables import Lakehouse
from serving.api.privacy import Accepted
from serving.api.sql import Rows
from tests.serving.api.conftest import served

DAY = date(2026, 11, 9)
SECRET = "only-for-other-eyes"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql")
    lake = Lakehouse(uri=str(folder / "lake"))
    rows = {"tenant_id": ["harbour", "acme"], "event_date": DAY, "site": ["a.example", SECRET], "note": SECRET}
    lake.replace_days("gold/site_brand_safety", [str(DAY)], pl.DataFrame(rows))
    lake.replace_days("silver/messages", [str(DAY)], pl.DataFrame({**rows, "text": SECRET}))
    with served(folder, lakehouse_uri=lake.uri) as (client, header):
        yield client, header, folder


def ask(server, sql, role="analyst", **key):
    client, header, _ = server
    return client.post("/v1/sql", json={"query": sql}, headers=header(role=role, **key))


def logged(server):
    return json.loads(max((server[2] / "access").iterdir()).read_text())


def test_a_key_sees_its_organisations_rows_and_its_roles_columns(server):
    answer = ask(server, "SELECT * FROM gold.site_brand_safety WHERE site <> 'of nobody'")
    assert answer.status_code == 200
    told = Rows.model_validate(answer.json())
    assert [column.name for column in told.columns] == ["tenant_id", "event_date", "site"]
    assert told.rows == [["harbour", "2026-11-09", "a.example"]]
    line = logged(server)
    assert (line["door"], line["role"], line["tenant"], line["rows"]) == ("POST /v1/sql", "analyst", "harbour", 1)
    assert line["query"] == "SELECT * FROM gold . site_brand_safety WHERE site <> ?"
    assert "of nobody" not in str(line)


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("FROM silver.messages", 403),
        ("SELECT note FROM gold.site_brand_safety", 422),
        ("FROM read_text('/etc/hosts')", 422),
        ("SELECT 1; SELECT 2", 422),
        ("SELECT * FROM range(20000)", 422),
        ("SELECT getenv('HOME')", 422),
        ("", 422),
        ("SELECT '" + "x" * 20_000 + "'", 422),
    ],
)
def test_what_may_not_be_asked_is_a_problem_and_is_recorded(server, sql, status):
    answer = ask(server, sql)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert SECRET not in answer.text
    if 0 < len(sql) < 20_000:
        line = logged(server)
        assert (line["outcome"], line["rows"]) == ("AccessDeniedError" if status == 403 else "QueryError", 0)


def test_a_key_needs_the_scope_and_a_role_sees_what_it_sees_anywhere(server):
    client, *_ = server
    assert client.post("/v1/sql", json={"query": "SELECT 1"}).status_code == 401
    assert ask(server, "SELECT 1", scopes=("signals",)).status_code == 403
    assert ask(server, "SELECT count(*) FROM silver.messages", role="ml").json()["rows"] == [[1]]


def test_nothing_is_answered_that_cannot_be_recorded(server):
    client, header, folder = server
    lines = sorted((folder / "access").iterdir())
    assert ask(server, "SELECT 1").status_code == 200
    cut = max((folder / "access").iterdir())
    whole = cut.read_text()
    cut.unlink()
    assert len(lines) == len(list((folder / "access").iterdir()))
    refused = ask(server, "SELECT 1")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    asked = {"kind": "export", "subject": "u-1"}
    assert client.post("/v1/privacy", json=asked, headers=header(role="privacy")).status_code == 503
    cut.write_text(whole)
    assert ask(server, "SELECT 1").status_code == 200


def test_a_request_of_a_person_is_taken_and_its_organisation_is_told_how_far_it_is(server):
    client, header, folder = server
    asked = {"kind": "export", "subject": "u-1"}
    taken = client.post("/v1/privacy", json=asked, headers=header(role="privacy"))
    assert taken.status_code == 202
    request = Accepted.model_validate(taken.json())
    assert (request.status, taken.headers["location"]) == ("waiting", f"/v1/privacy/{request.id}")
    assert client.get(taken.headers["location"], headers=header(role="privacy")).json() == taken.json()
    for other in ({"tenant": "acme", "role": "privacy"}, {"tenant": "acme", "role": "engineer"}):
        assert client.get(taken.headers["location"], headers=header(**other)).status_code == 404
    for name in ("0" * 32, "x", "..%2Fkeys"):
        assert client.get(f"/v1/privacy/{name}", headers=header(role="privacy")).status_code == 404
    assert "u-1" not in str(logged(server))
    assert {oct(file.stat().st_mode)[-3:] for file in (folder / "requests").iterdir()} == {"600"}


@pytest.mark.parametrize("kind", ["erase", "export"])
def test_only_a_role_that_may_erase_or_export_asks_for_it(server, kind):
    client, header, folder = server
    before = len(list((folder / "requests").glob("*")))
    refused = client.post("/v1/privacy", json={"kind": kind, "subject": "u-1"}, headers=header(role="analyst"))
    assert (refused.status_code, logged(server)["outcome"]) == (403, "AccessDeniedError")
    for wrong in ({"kind": "read", "subject": "u-1"}, {"kind": kind, "subject": ""}, {"kind": kind}):
        assert client.post("/v1/privacy", json=wrong, headers=header(role="privacy")).status_code == 422
    assert len(list((folder / "requests").glob("*"))) == before
