from datetime import UTC, datetime

import pytest

from serving.api.suitability import MAX_URLS
from tests.serving.api.conftest import PAGE, served
from tests.support.signals import record

URL = "/v1/suitability"
SAFE, ARMS = "https://a.example/safe", "https://a.example/arms"


@pytest.fixture
def profiles(tmp_path):
    (tmp_path / "harbour").mkdir()
    (tmp_path / "harbour" / "brand.yaml").write_text("says: x\nrisk: low\nsites: {refused: [bad.example]}")
    return tmp_path


@pytest.fixture
def ask(tmp_path, profiles):
    with served(tmp_path, suitability_profiles=profiles) as (client, header):
        now = datetime.now(UTC)
        arms = {"risk": "high", "risks": [{"category": "arms", "level": "high"}]}
        client.app.state.server.store.put([record(SAFE, at=now), record(ARMS, at=now, **arms)])

        def post(*urls, profile="brand", tenant="harbour"):
            return client.post(URL, json={"profile": profile, "urls": urls}, headers=header(tenant))

        post.client, post.header = client, header
        yield post


def test_pages_are_judged_in_their_order_with_reasons(ask):
    answer = ask(SAFE, ARMS, "https://www.bad.example/x").json()
    told = [(one["url"], one["allowed"], [reason["rule"] for reason in one["reasons"]]) for one in answer["verdicts"]]
    assert told == [
        (SAFE, True, []),
        (ARMS, False, ["risk_too_high"]),
        ("https://www.bad.example/x", False, ["site_refused", "page_unknown"]),
    ]
    assert answer["verdicts"][1]["reasons"][0]["what"] == "arms: high, accepted up to low"


def test_a_look_up_says_whether_pages_suit_a_profile(ask):
    headers = ask.header()
    one = ask.client.get("/v1/signals", params={"url": ARMS, "profile": "brand"}, headers=headers)
    assert (one.json()["status"], one.json()["suitability"]["allowed"]) == ("current", False)
    several = {"urls": [SAFE, PAGE], "profile": "brand"}
    many = ask.client.post("/v1/signals/lookup", json=several, headers=headers).json()["answers"]
    # Of the second only the site is known.
    assert [(told["status"], told["suitability"]["allowed"]) for told in many] == [("current", True), ("site", False)]
    without = ask.client.get("/v1/signals", params={"url": ARMS}, headers=headers)
    assert "suitability" not in without.json()
    assert without.headers["ETag"] != one.headers["ETag"]
    assert ask.client.get("/v1/signals", params={"url": ARMS, "profile": "none"}, headers=headers).status_code == 404


def test_a_change_of_a_profile_takes_effect_at_once_and_is_named(ask, profiles):
    (before,) = ask(ARMS).json()["verdicts"]
    (profiles / "harbour" / "brand.yaml").write_text("says: x\nrisk: high")
    (after,) = ask(ARMS).json()["verdicts"]
    assert (before["allowed"], after["allowed"]) == (False, True)
    assert before["digest"] != after["digest"]


def test_a_profile_is_its_organisations_own(ask):
    assert ask(SAFE, tenant="other").status_code == 404
    assert ask(SAFE, tenant="other", profile="../harbour/brand").status_code == 404


def test_a_faulty_profile_allows_nothing_and_says_why(ask, profiles):
    (profiles / "harbour" / "brand.yaml").write_text("risk: low")
    answer = ask(SAFE)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "profile harbour/brand: says: Field required; mend its file"


@pytest.mark.parametrize("urls", [[], ["x"] * (MAX_URLS + 1), ["x" * 9_000], [5]])
def test_a_bad_body_is_refused(ask, urls):
    assert ask(*urls).status_code == 422
