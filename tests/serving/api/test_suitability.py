import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serving.api.suitability import MAX_URLS, router

URL = "/v1/suitability"
PAGES = {
    "https://a.example/safe": {"site": "a.example", "risk": "none", "topics": [{"id": "484"}]},
    "https://a.example/arms": {"site": "a.example", "risk": "high", "risks": [{"category": "arms", "level": "high"}]},
}


async def find(_request, addresses):
    return [PAGES.get(address.url) for address in addresses]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "brand.yaml").write_text("says: x\nrisk: low\nsites: {refused: [bad.example]}")
    return tmp_path


@pytest.fixture
def client(folder):
    app = FastAPI()
    app.include_router(router(find, lambda request: request.headers.get("tenant", "acme"), folder))
    with TestClient(app) as client:
        yield client


def ask(client, *urls, profile="brand", **headers):
    return client.post(URL, json={"profile": profile, "urls": urls}, headers=headers)


def test_pages_are_judged_in_their_order_with_reasons(client):
    answer = ask(client, *PAGES, "https://www.bad.example/x").json()
    assert answer["verdicts"] == [
        {"url": "https://a.example/safe", "allowed": True, "reasons": []},
        {
            "url": "https://a.example/arms",
            "allowed": False,
            "reasons": [{"rule": "risk_too_high", "what": "arms: high, accepted up to low"}],
        },
        {
            "url": "https://www.bad.example/x",
            "allowed": False,
            "reasons": [
                {"rule": "site_refused", "what": "bad.example"},
                {"rule": "page_unknown", "what": "nothing is known of the page"},
            ],
        },
    ]


def test_a_change_of_a_profile_takes_effect_at_once_and_is_named(client, folder):
    before = ask(client, "https://a.example/arms").json()
    (folder / "acme" / "brand.yaml").write_text("says: x\nrisk: high")
    after = ask(client, "https://a.example/arms").json()
    assert [told["verdicts"][0]["allowed"] for told in (before, after)] == [False, True]
    assert before["digest"] != after["digest"]


def test_a_profile_is_its_organisations_own(client):
    assert ask(client, "https://a.example/safe", tenant="other").status_code == 404
    assert ask(client, "https://a.example/safe", profile="../acme/brand").status_code == 404


def test_a_faulty_profile_allows_nothing_and_says_why(client, folder):
    (folder / "acme" / "brand.yaml").write_text("risk: low")
    answer = ask(client, "https://a.example/safe")
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "profile acme/brand: says: Field required; mend its file",
    )


@pytest.mark.parametrize("urls", [[], ["x"] * (MAX_URLS + 1), ["x" * 9_000], [5], None])
def test_a_bad_body_is_refused(client, urls):
    assert client.post(URL, json={"profile": "brand", "urls": urls}).status_code == 422
