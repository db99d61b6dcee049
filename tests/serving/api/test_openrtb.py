import json

import pytest

from serving.api.openrtb import MAX_BYTES, OUTCOME
from tests.serving.api.conftest import OTHER, PAGE
from tests.support.requests import fixtures

BODY = json.dumps({"id": "r", "imp": [{"id": "1"}], "site": {"page": PAGE}, "user": {"id": "u"}}, indent=3).encode()
URL = "/v1/openrtb/enrich"


@pytest.fixture
def enrich(server):
    client, header = server
    key = header()

    def post(body=BODY, *, budget_ms=1_000, **params):
        params |= {"budget_ms": budget_ms}
        return client.post(URL, content=body, params=params, headers=key)

    return post


def test_a_request_comes_back_with_what_is_known_of_its_page(enrich):
    answer = enrich()
    assert (answer.status_code, answer.headers[OUTCOME]) == (200, "page")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["site"]["content"]["cat"] == ["239"]
    asked = enrich(cattax=1, pagecat=True).json()["site"]
    assert (asked["pagecat"], asked["cattax"], asked["content"]["cattax"]) == (["IAB9"], 1, 1)


@pytest.mark.parametrize("page", [OTHER, f"{PAGE}/none"])
def test_a_request_of_a_page_that_is_not_known_gets_what_is_known_of_its_site_marked_as_such(enrich, page):
    answer = enrich(BODY.replace(PAGE.encode(), page.encode()))
    assert answer.headers[OUTCOME] == "site"
    site = answer.json()["site"]
    topics, risk = site["content"]["data"]
    assert (topics["segment"], topics["ext"]) == ([{"id": "239", "value": "1.000"}], {"segtax": 9, "known_of": "site"})
    assert (risk["segment"], risk["ext"]) == ([{"id": "any", "value": "high"}], {"segtax": 650, "known_of": "site"})
    assert (site.keys(), site["content"].keys()) == ({"page", "content"}, {"data"})


def test_a_request_of_a_site_of_which_nothing_is_known_comes_back_as_it_came(enrich):
    body = BODY.replace(PAGE.encode(), b"https://elsewhere.example/")
    answer = enrich(body)
    assert (answer.content, answer.headers[OUTCOME]) == (body, "unknown")


def test_a_request_comes_back_as_it_came_once_its_budget_is_spent(enrich):
    answer = enrich(budget_ms=0.001)
    assert (answer.status_code, answer.content, answer.headers[OUTCOME]) == (200, BODY, "late")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "openrtb_malformed"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"[" * 100_000, 400, "openrtb_malformed"),
        (b'{"id":"r"}', 400, "openrtb_request_without_imp"),
        (BODY.replace(b'{\n      "page"', b'[{"page"').replace(b'story"\n   }', b'story"}]'), 400, "openrtb_malformed"),
        (b" " * (MAX_BYTES + 1), 413, f"{MAX_BYTES + 1:,}"),
    ],
)
def test_what_is_no_bid_request_gets_one_clear_line(enrich, body, status, says):
    answer = enrich(body)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True)
    assert PAGE not in answer.text


@pytest.mark.parametrize(
    "query", [{"cattax": 5}, {"cattax": "x"}, {"budget_ms": 0}, {"budget_ms": "nan"}, {"pagecat": 3}]
)
def test_a_bad_parameter_is_refused(enrich, query):
    assert enrich(**query).status_code == 422


def test_every_public_fixture_gets_an_answer(enrich):
    for name, told in fixtures().items():
        body = json.dumps(told).encode()
        answer = enrich(body)
        assert answer.status_code in (200, 400), name
        assert answer.status_code == 400 or answer.content == body or answer.headers[OUTCOME] == "page", name


def test_who_has_no_key_for_it_is_refused(server):
    client, header = server
    assert client.post(URL, content=BODY).status_code == 401
    assert client.post(URL, content=BODY, headers=header(scopes=("signals",))).status_code == 403


def test_the_schema_names_the_taxonomies(server):
    schema = server[0].get("/openapi.json").json()
    assert schema["components"]["schemas"]["Cattax"]["enum"] == [9, 7, 6, 1]
    assert schema["paths"][URL]["post"]["requestBody"]["required"]
