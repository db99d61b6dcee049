import asyncio
import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serving.api.openrtb import MAX_BYTES, OUTCOME, router
from tests.support.requests import fixtures

PAGE = "https://example.org/a"
RECORD = {"topics": [{"id": "483", "path": "Sports", "tier": 1, "score": 0.9}], "risks": [], "risk": "none"}
BODY = json.dumps({"id": "r", "imp": [{"id": "1"}], "site": {"page": PAGE}, "user": {"id": "u"}}, indent=3).encode()
URL = "/v1/openrtb/enrich"


async def find(_request, addresses):
    (address,) = addresses
    if address.url == "https://example.org/slow":
        await asyncio.sleep(5)
    return [RECORD if address.url == PAGE else None]


@pytest.fixture(scope="module")
def client():
    app = FastAPI()
    app.include_router(router(find))
    with TestClient(app) as client:
        yield client


def test_a_request_comes_back_with_what_is_known_of_its_page(client):
    answer = client.post(URL, content=BODY)
    assert (answer.status_code, answer.headers[OUTCOME]) == (200, "page")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["site"]["content"]["cat"] == ["483"]
    asked = client.post(URL, content=BODY, params={"cattax": 1, "pagecat": True}).json()["site"]
    assert (asked["pagecat"], asked["cattax"], asked["content"]["cattax"]) == (["IAB17"], 1, 1)


def test_a_request_of_an_unknown_page_comes_back_as_it_came(client):
    body = BODY.replace(b"/a", b"/b")
    answer = client.post(URL, content=body)
    assert (answer.content, answer.headers[OUTCOME]) == (body, "unknown")


def test_a_request_comes_back_as_it_came_once_its_budget_is_spent(client):
    body = BODY.replace(b"/a", b"/slow")
    answer = client.post(URL, content=body)
    assert (answer.status_code, answer.content, answer.headers[OUTCOME]) == (200, body, "late")
    tight = client.post(URL, content=BODY, params={"budget_ms": 0.001})
    assert (tight.content, tight.headers[OUTCOME]) == (BODY, "late")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "openrtb_malformed"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"[" * 100_000, 400, "openrtb_malformed"),
        (b'{"id":"r"}', 400, "openrtb_request_without_imp"),
        (BODY.replace(b'{\n      "page"', b'[{"page"').replace(b'a"\n   }', b'a"}]'), 400, "openrtb_malformed"),
        (b" " * (MAX_BYTES + 1), 413, f"{MAX_BYTES + 1:,}"),
    ],
)
def test_what_is_no_bid_request_gets_one_clear_line(client, body, status, says):
    answer = client.post(URL, content=body)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True)
    assert PAGE not in answer.text


@pytest.mark.parametrize(
    "query", [{"cattax": 5}, {"cattax": "x"}, {"budget_ms": 0}, {"budget_ms": "nan"}, {"pagecat": 3}]
)
def test_a_bad_parameter_is_refused(client, query):
    assert client.post(URL, content=BODY, params=query).status_code == 422


def test_every_public_fixture_gets_an_answer(client):
    for name, told in fixtures().items():
        body = json.dumps(told).encode()
        answer = client.post(URL, content=body)
        assert answer.status_code in (200, 400), name
        assert answer.status_code == 400 or answer.content == body or answer.headers[OUTCOME] == "page", name


def test_the_schema_names_the_taxonomies(client):
    schema = client.get("/openapi.json").json()
    assert schema["components"]["schemas"]["Cattax"]["enum"] == [9, 7, 6, 1]
    assert schema["paths"][URL]["post"]["requestBody"]["required"]
