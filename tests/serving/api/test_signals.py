import json
from datetime import UTC, datetime

import pytest

from serving.api import identity
from serving.api.signals import MAX_URLS
from tests.serving.api.conftest import OTHER, PAGE, served
from tests.support.signals import record


def test_a_page_is_answered_under_any_of_its_addresses(server):
    client, header = server
    answer = client.get("/v1/signals", params={"url": "http://m.a.example/story/amp?gclid=1#x"}, headers=header())
    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["document_id"], found["signals"]["risk"]) == ("current", PAGE, "high")
    assert found["age"] < 60


def test_many_are_answered_in_order_what_is_expired_and_what_is_not_known_as_such(server):
    client, header = server
    asked = [OTHER, PAGE, "https://a.example/new", "https://b.example/", "no address"]
    for expired, statuses in (
        (True, ["expired", "current", "site", "unknown", "unknown"]),
        (False, ["site", "current", "site", "unknown", "unknown"]),
    ):
        answer = client.post("/v1/signals/lookup", json={"urls": asked, "expired": expired}, headers=header())
        found = answer.json()["answers"]
        assert [one["url"] for one in found] == asked
        assert [one["status"] for one in found] == statuses
        assert "signals" not in found[-1]
        topics = [{"id": "239", "share": 1.0}]
        assert found[2]["signals"] == {"site": "a.example", "pages": 1, "risk": "high", "topics": topics}


def test_an_answer_that_the_caller_holds_is_not_sent_again_until_it_changes(server):
    client, header = server
    key = header()
    first = client.get("/v1/signals", params={"url": PAGE}, headers=key)
    for held in (first.headers["etag"], f'"a", {first.headers["etag"]}', "*"):
        again = client.get("/v1/signals", params={"url": PAGE}, headers=key | {"If-None-Match": held})
        assert (again.status_code, again.content) == (304, b"")
    store = client.app.state.server.store
    store.put([record(PAGE, at=datetime.now(UTC), risk="low")])
    changed = client.get("/v1/signals", params={"url": PAGE}, headers=key | {"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200


def test_each_tenant_is_answered_from_its_own_pages(server):
    client, header = server
    answer = client.get("/v1/signals", params={"url": PAGE}, headers=header("meridian"))
    assert answer.json() == {"url": PAGE, "status": "unknown"}


def test_what_a_role_does_not_see_is_not_in_the_answer(server, monkeypatch):
    client, header = server
    monkeypatch.setattr(identity, "hidden_columns", lambda *_: frozenset({"topics"}))
    found = client.get("/v1/signals", params={"url": PAGE}, headers=header()).json()["signals"]
    assert "topics" not in found
    assert found["risk"] == "high"


@pytest.mark.parametrize(
    ("credentials", "status"),
    [({}, 401), ({"Authorization": "Bearer "}, 401), ({"Authorization": "Bearer smls_x"}, 401),
     ({"Authorization": "Basic eA=="}, 401)],
)  # fmt: skip
def test_who_has_no_key_is_not_answered(server, credentials, status):
    client, _ = server
    answer = client.get("/v1/signals", params={"url": PAGE}, headers=credentials)
    assert_problem(answer, status)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_answers_within_its_scopes_and_its_role(server):
    client, header = server
    assert_problem(client.get("/v1/signals", params={"url": PAGE}, headers=header(scopes=("classify",))), 403)
    assert_problem(client.get("/v1/signals", params={"url": PAGE}, headers=header(role="ml")), 403)


def test_keys_that_cannot_be_read_let_nobody_in(server, tmp_path):
    client, header = server
    key = header()
    (tmp_path / "keys.json").write_text("{")
    assert_problem(client.get("/v1/signals", params={"url": PAGE}, headers=key), 503)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (("GET", "/v1/signals"), 422),
        (("GET", f"/v1/signals?url={'x' * 9_000}"), 422),
        (("GET", "/v1/signals?url=a&expired=perhaps"), 422),
        (("POST", "/v1/signals/lookup"), 422),
        (("GET", "/v1/signals/lookup"), 405),
        (("GET", "/nothing/secret-path"), 404),
    ],
)
def test_errors_of_the_framework_are_problems_that_do_not_repeat_what_was_sent(server, asked, status):
    client, header = server
    answer = client.request(*asked, headers=header())
    assert_problem(answer, status)
    assert "secret" not in answer.text
    assert "xxx" not in answer.text


@pytest.mark.parametrize("urls", [[], "a", [1], ["a"] * (MAX_URLS + 1), ["x" * 9_000]])
def test_bodies_that_are_not_as_declared_are_refused(server, urls):
    client, header = server
    assert_problem(client.post("/v1/signals/lookup", json={"urls": urls}, headers=header()), 422)


BROKEN = {b"{": 422, b"\xff": 400, b'{"urls":["\\ud800"]}': 422, b"[" * 100_000: 400, b"null": 422}


@pytest.mark.parametrize(("body", "status"), BROKEN.items())
def test_bodies_that_are_no_json_are_refused(server, body, status):
    client, header = server
    answer = client.post("/v1/signals/lookup", content=body, headers=header() | {"Content-Type": "application/json"})
    assert_problem(answer, status)


def test_what_fails_in_us_is_a_problem_with_an_id_and_tells_nothing_of_the_inside(server, monkeypatch, capsys):
    client, header = server

    def broken(*_, **__):
        raise RuntimeError(f"secret {PAGE}")

    monkeypatch.setattr("serving.api.known.look_up", broken)
    answer = client.get("/v1/signals", params={"url": PAGE}, headers=header())
    assert_problem(answer, 500)
    logged = capsys.readouterr().err
    assert answer.headers["x-request-id"] in logged
    assert "RuntimeError" in logged
    for private in ("secret", PAGE):
        assert private not in answer.text + logged


def test_a_body_above_the_limit_is_refused_whether_or_not_it_says_its_size(tmp_path):
    with served(tmp_path, api_body_bytes=2_000) as (client, header):
        key = header() | {"Content-Type": "application/json"}
        for content in (b"x" * 3_000, iter([b"x" * 1_500] * 2)):
            assert_problem(client.post("/v1/signals/lookup", content=content, headers=key), 413)


def test_a_key_above_its_rate_waits_and_another_does_not(tmp_path):
    with served(tmp_path, api_rate="3/hour") as (client, header):
        busy, other = header(), header()
        statuses = [client.get("/v1/signals?url=a", headers=busy).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = client.get("/v1/signals?url=a", headers=busy)
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert client.get("/v1/signals?url=a", headers=other).status_code == 200


def assert_problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told.keys() == {"type", "title", "status", "detail"}
    assert told["status"] == status
    assert len(told["detail"]) > 20


def test_pages_that_are_not_known_are_noted_for_whoever_fetches_pages(tmp_path):
    with served(tmp_path, wanted_pages=tmp_path / "wanted") as (client, header):
        client.app.state.server.store.put([record(PAGE, at=datetime.now(UTC))])
        asked = [PAGE, "https://a.example/new", "https://b.example/new?gclid=1"]
        assert client.post("/v1/signals/lookup", json={"urls": asked}, headers=header()).status_code == 200
    (file,) = (tmp_path / "wanted").iterdir()
    noted = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["tenant_id"], one["url"]) for one in noted] == [
        ("harbour", "https://a.example/new"),
        ("harbour", "https://b.example/new"),
    ]
