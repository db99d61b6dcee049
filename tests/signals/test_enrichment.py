import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.documents.currency import rates
from signals.documents.json_text import parsed
from signals.documents.openrtb import NotOpenRtbError, auction
from signals.enrichment import PROVIDER, RISK_SEGTAX, SENTIMENT_SEGTAX, BidRequest
from signals.taxonomies import COLUMNS
from tests.support.requests import fixtures

RECORD = {
    "topics": [
        {"id": "483", "path": "Sports", "tier": 1, "score": 0.91},
        {"id": "647", "path": "Genres > Drama", "tier": 2, "score": 0.4},
    ],
    "risks": [{"category": "arms", "level": "low", "score": 0.4}],
    "risk": "low",
    "language": "en",
    "keywords": ["cup final", "goal"],
    "sentiment": "positive",
    "sentiment_score": 0.8,
}
IMP = [{"id": "1", "banner": {}}]


def data(cattax, *topics):
    return [
        {"name": PROVIDER, "segment": [{"id": i, "value": v} for i, v in topics], "ext": {"segtax": cattax}},
        {
            "name": PROVIDER,
            "segment": [{"id": "any", "value": "low"}, {"id": "arms", "value": "low"}],
            "ext": {"segtax": RISK_SEGTAX},
        },
        {"name": PROVIDER, "segment": [{"id": "positive", "value": "0.800"}], "ext": {"segtax": SENTIMENT_SEGTAX}},
    ]


DATA = data(9, ("483", "0.910"), ("647", "0.400"))
CONTENT = {"cat": ["483", "647"], "cattax": 9, "language": "en", "keywords": "cup final,goal", "data": DATA}


def enriched(record=RECORD, cattax=9, *, pagecat=False, **told):
    """Return what has been added to a request, after it was made sure that nothing else has changed."""
    text = json.dumps({"id": "r", "imp": IMP, **told}, indent=1)
    new = BidRequest(text).enriched(record, cattax, pagecat=pagecat)
    assert subsequence(text, new)
    return json.loads(new)


def subsequence(short, long):
    characters = iter(long)
    return all(character in characters for character in short)


def without(value, told):
    """Return a value without what has been put into it beside what was told."""
    if isinstance(value, dict):
        return {name: without(inner, told[name]) for name, inner in value.items() if name in told}
    return value[: len(told)] if isinstance(value, list) else value


@pytest.mark.parametrize("place", ["site", "app"])
def test_the_content_of_a_place_is_filled(place):
    assert enriched(**{place: {}}) == {"id": "r", "imp": IMP, place: {"content": CONTENT}}


def test_a_request_of_no_page_stays_as_it_is():
    assert enriched() == {"id": "r", "imp": IMP}
    assert enriched(dooh={"id": "d"}, site=None) == {"id": "r", "imp": IMP, "dooh": {"id": "d"}, "site": None}


@pytest.mark.parametrize(
    ("cattax", "cat", "segments"),
    [
        (9, ["483", "647"], DATA),
        (7, ["483", "647"], data(7, ("483", "0.910"), ("647", "0.400"))),
        (6, ["483"], DATA),
        (1, ["IAB17"], DATA),
    ],
)
def test_categories_are_of_the_taxonomy_that_is_asked_for(cattax, cat, segments):
    content = enriched(cattax=cattax, site={})["site"]["content"]
    assert (content["cat"], content["cattax"], content["data"]) == (cat, cattax, segments)


def test_what_content_says_is_not_overwritten():
    told = {"title": "T", "cat": ["1"], "cattax": 9, "langb": "en-GB", "kwarray": [], "data": [{"name": "x"}]}
    assert enriched(site={"content": told})["site"]["content"] == told | {"data": [{"name": "x"}, *DATA]}
    told = {"cattax": 9, "language": "fr", "keywords": ""}
    assert enriched(site={"content": told})["site"]["content"] == told | {"cat": CONTENT["cat"], "data": DATA}
    for null in ({"content": None}, {"content": {"data": None, "cattax": 7}}):
        assert enriched(site=null)["site"] == null


@pytest.mark.parametrize("told", [{"cattax": 7}, {"cat": ["IAB1"]}, {"cat": ["1"], "cattax": 6}, {"cattax": None}])
def test_on_a_conflict_of_taxonomies_only_data_is_written(told):
    assert enriched(site={"content": told})["site"]["content"] == told | {"data": DATA}


def test_a_request_of_taxonomy_1_that_does_not_say_so_is_no_conflict_where_1_is_asked_for():
    assert enriched(cattax=1, site={"content": {"cat": ["IAB9"]}})["site"]["content"]["language"] == "en"


def test_topics_go_to_pagecat_where_asked_and_never_to_cat():
    assert enriched(pagecat=True, site={})["site"] == {"pagecat": CONTENT["cat"], "cattax": 9, "content": CONTENT}
    for said in ({"cat": ["IAB1"]}, {"pagecat": []}, {"sectioncat": ["1"], "cattax": 6}, {"cattax": 1}):
        assert enriched(pagecat=True, site=said)["site"] == said | {"content": CONTENT}
    assert enriched(pagecat=True, app={"cat": ["1"], "cattax": 9})["app"]["pagecat"] == CONTENT["cat"]


def test_data_is_put_in_once():
    once = enriched(site={})
    text = json.dumps(once)
    assert BidRequest(text).enriched(RECORD) == text


def test_of_a_site_only_data_is_said_beside_that_of_a_page():
    known = {"site": "a.example", "pages": 4, "risk": "high", "topics": [{"id": "483", "share": 0.75}]}
    text = json.dumps({"id": "r", "imp": IMP, "site": {"content": {"cat": ["IAB17"], "data": DATA}}})
    once = BidRequest(text).enriched_by_site(known)
    assert BidRequest(once).enriched_by_site(known) == once
    content = json.loads(once)["site"]["content"]
    assert (content.keys(), content["data"][: len(DATA)]) == ({"cat", "data"}, DATA)
    told = {one["ext"]["segtax"]: (one["ext"]["known_of"], one["segment"]) for one in content["data"][len(DATA) :]}
    assert told == {
        9: ("site", [{"id": "483", "value": "0.750"}]),
        RISK_SEGTAX: ("site", [{"id": "any", "value": "high"}]),
    }


def test_of_a_page_without_topics_the_risk_is_said():
    nothing = {"topics": [], "risks": [], "keywords": [], "language": None, "sentiment": None}
    (entry,) = enriched(record=nothing, site={})["site"]["content"]["data"]
    assert enriched(record=nothing, site={})["site"]["content"].keys() == {"data"}
    assert entry["segment"] == [{"id": "any", "value": "unknown"}]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"site": {"page": "https://a.b/", "domain": "a.b", "ref": "https://c.d/"}}, "https://a.b/"),
        ({"site": {"ref": "https://c.d/", "domain": "a.b"}}, None),
        ({"app": {"content": {"url": "https://a.b/v"}, "domain": 5}}, "https://a.b/v"),
        ({"site": {"page": ["x"], "domain": ""}}, None),
        ({}, None),
    ],
)
def test_the_address_is_that_of_the_page_or_content(told, expected):
    assert BidRequest(json.dumps({"id": "r", "imp": IMP, **told})).url == expected


def test_all_else_is_returned_byte_for_byte():
    text = (
        '\t{"id":"r" ,"imp":[{"id":"1","bidfloor":1.10,"w":1e400}],"x":123456789012345678901234567890,\r\n'
        '"site":{"old":1}, "user":{"id":"\\u00e9\\ud83d\\/"},"site" : { "page":"p" ,"content":{ } }, "user":{}}\n'
    )
    content = json.dumps(CONTENT, separators=(",", ":"))
    assert BidRequest(text).enriched(RECORD) == text.replace("{ }", f"{content[:-1]} }}")


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.text())), st.sampled_from([*COLUMNS]))
def test_any_content_keeps_what_it_says(told, cattax):
    told.pop("data", None)
    found = enriched(cattax=cattax, pagecat=True, site={"content": told})
    assert without(found["site"]["content"], told) == told
    content = found["site"]["content"]
    assert not {"language", "langb"} <= content.keys()
    assert not {"keywords", "kwarray"} <= content.keys()


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", '"x"', "{", '{"id":"r"}', '{"id":"r","imp":[]}', '{"id":"r","imp":[{}]}',
        '{"id":"r","imp":[{"id":"1"},{"id":"1"}]}', '{"id":"r","imp":[{"id":"1"}],"site":[]}',
        '{"id":"r","imp":[{"id":"1"}],"site":{"content":5}}',
        '{"id":"r","imp":[{"id":"1"}],"app":{"content":{"data":{}}}}',
        '{"id":"r","imp":[{"id":"1"}],"x":NaN}', '{"x":' * 50_000,
    ],
)  # fmt: skip
def test_what_is_no_bid_request_is_refused(text):
    with pytest.raises(NotOpenRtbError):
        BidRequest(text)


def test_every_public_fixture_that_is_a_request_is_enriched_and_stays_valid():
    none, day, kept = rates(""), date(2026, 11, 10), 0
    for name, told in fixtures().items():
        text = json.dumps(told, indent=2)
        if auction(text, None, none, day).get("rule") is not None:
            continue
        new = BidRequest(text).enriched(RECORD, pagecat=True)
        assert without(parsed(new), told) == told, name
        assert subsequence(text, new), name
        assert auction(new, None, none, day) == auction(text, None, none, day), name
        place = parsed(new).get("site") or parsed(new).get("app")
        assert not place or place["content"]["data"][-3:] == DATA, name
        kept += 1
    assert kept > 200
