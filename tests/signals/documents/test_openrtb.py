import json
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.documents.currency import Rates, rates
from signals.documents.openrtb import AUCTION, FORMATS, auction

DAY = date(2026, 11, 10)
RATES = rates("2026-11-01 EUR 1.5\n2026-11-01 JPY 0.01\n")
BANNER = {"id": "1", "banner": {"w": 300}}
REQUEST = {
    "id": "r1",
    "imp": [{**BANNER, "bidfloor": 0.5}, {"id": "2", "video": {}, "bidfloor": 1.25}],
    "site": {"page": "https://WWW.Example.org/a#x"},
    "user": {"id": "u1", "buyeruid": "b1"},
    "tmax": 120,
}
BIDS = [
    {"bidder": "one", "status": "bid", "price_cpm_usd": 2.5, "latency_ms": 40, "response": {"id": "x"}},
    {"bidder": "two", "status": "no_bid", "no_bid_reason": 2},
]


def read(request=REQUEST, bids=BIDS, known=RATES):
    """Return the row of one auction, after it has been through the schema; text is given as it is."""
    said = [value if isinstance(value, str | None) else json.dumps(value) for value in (request, bids)]
    return pl.DataFrame([auction(*said, known, DAY)], schema=AUCTION).row(0, named=True)


def imps(*items):
    return REQUEST | {"imp": list(items)}


def floor(*floors, known=RATES):
    found = read(imps(*({**BANNER, "id": str(i)} | one for i, one in enumerate(floors))), known=known)
    return found["floor_cpm"], found["floor_currency"], found["floor_cpm_usd"]


def test_a_request_and_its_bids_are_reduced_to_what_is_analysed():
    blank = dict.fromkeys(("no_bid_reason", "latency_ms", "price_cpm", "currency", "price_cpm_usd"))
    priced = {"latency_ms": 40, "price_cpm": 2.5, "currency": "USD", "price_cpm_usd": 2.5}
    assert read() == {
        "url": "https://WWW.Example.org/a#x",
        "document_id": "https://www.example.org/a",
        "site": "example.org",
        "app_bundle": None,
        "user_id": "u1",
        "format": "banner",
        "imps": 2,
        "floor_cpm": 1.25,
        "floor_currency": "USD",
        "floor_cpm_usd": 1.25,
        "timeout_ms": 120,
        "bids": [
            blank | {"bidder": "one", "status": "bid"} | priced,
            blank | {"bidder": "two", "status": "no_bid", "no_bid_reason": 2},
        ],
        "rule": None,
    }


def test_what_a_request_leaves_out_is_null():
    row = read({"id": "r", "imp": [{"id": "1", "native": {}}]}, None)
    assert {name for name, value in row.items() if value is None} == {
        *("url", "document_id", "site", "app_bundle", "user_id", "timeout_ms", "rule")
    }
    assert (row["format"], row["imps"], row["floor_cpm_usd"], row["bids"]) == ("native", 1, 0.0, [])


def test_an_auction_of_a_source_without_requests_is_kept():
    row = read(None, None)
    assert (row["rule"], row["format"], row["bids"]) == (None, None, [])


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_that_of_the_first_impression(name):
    assert read({"id": "r", "imp": [{"id": "1", name: {}}, {"id": "2", "banner": {}}]})["format"] == name


@pytest.mark.parametrize(
    ("floors", "expected"),
    [
        ([{"bidfloor": 0.8}], (0.8, "USD", 0.8)),
        ([{"bidfloor": 0.8, "bidfloorcur": ""}], (0.8, "USD", 0.8)),
        ([{"bidfloor": 0.8, "bidfloorcur": "usd "}], (0.8, "USD", 0.8)),
        ([{"bidfloor": 0.8, "bidfloorcur": "EUR"}], (0.8, "EUR", 1.2)),
        ([{"bidfloor": 0.8, "bidfloorcur": "GBP"}], (0.8, "GBP", None)),
        ([{"bidfloor": 0.8, "bidfloorcur": "GBP"}, {"bidfloor": 0.9, "bidfloorcur": "GBP"}], (0.9, "GBP", None)),
        # The largest number is not the highest floor, and among floors of which one has no rate nobody knows it.
        ([{"bidfloor": 90, "bidfloorcur": "JPY"}, {"bidfloor": 0.8, "bidfloorcur": "EUR"}], (0.8, "EUR", 1.2)),
        ([{"bidfloor": 5}, {"bidfloor": 0.8, "bidfloorcur": "GBP"}], (None, None, None)),
        ([{"bidfloor": 5}, {"bidfloor": 0, "bidfloorcur": "GBP"}, {}], (5, "USD", 5)),
    ],
)
def test_a_floor_is_stated_in_its_currency_and_given_in_dollars_where_a_rate_is_known(floors, expected):
    assert floor(*floors) == expected


@settings(max_examples=100)
@given(st.floats(0.01, 100), st.text(st.characters(categories=["Lu"]), min_size=3, max_size=3))
def test_no_amount_of_another_currency_is_given_as_dollars_without_a_rate(amount, currency):
    expected = amount if currency == "USD" else None
    assert floor({"bidfloor": amount, "bidfloorcur": currency}, known=Rates()) == (amount, currency, expected)
    (bid,) = read(bids=[{"price_cpm": amount, "cur": currency}], known=Rates())["bids"]
    assert (bid["price_cpm"], bid["currency"], bid["price_cpm_usd"]) == (amount, currency, expected)


@pytest.mark.parametrize("name", ["price_cpm", "price_cpm_usd"])
def test_a_bid_is_of_the_currency_that_it_states(name):
    (bid,) = read(bids=[{name: 2.0, "cur": "EUR"}])["bids"]
    assert (bid["price_cpm"], bid["currency"], bid["price_cpm_usd"]) == (2.0, "EUR", 3.0)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"page": "https://www.a.example/x", "domain": "b.example"}, ("https://www.a.example/x", "a.example")),
        ({"domain": "a.example"}, (None, "a.example")),
        ({"domain": "WWW.A.example", "page": None}, (None, "a.example")),
        ({"domain": "https://a.example/", "page": ""}, (None, "a.example")),
        ({"domain": "a.example", "page": "/story"}, ("/story", "a.example")),
        ({"domain": "not told", "page": " "}, (None, None)),
        (None, (None, None)),
    ],
)
def test_a_site_is_named_by_its_page_or_else_by_its_domain(told, expected):
    row = read(REQUEST | {"site": told})
    assert (row["url"], row["site"], row["rule"]) == (*expected, None)
    assert (row["document_id"] is None) == (expected[0] is None)


@pytest.mark.parametrize("bundle", ["com.example.app", 628677149])
def test_an_app_has_its_bundle_and_no_site(bundle):
    request = {name: value for name, value in REQUEST.items() if name != "site"} | {"app": {"bundle": bundle}}
    row = read(request)
    assert (row["app_bundle"], row["site"], row["url"], row["rule"]) == (str(bundle), None, None, None)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("not json", "openrtb_malformed"),
        ([1], "openrtb_request_without_id"),
        ({"imp": [BANNER]}, "openrtb_request_without_id"),
        (REQUEST | {"id": ""}, "openrtb_request_without_id"),
        ({"id": "r"}, "openrtb_request_without_imp"),
        (imps(), "openrtb_request_without_imp"),
        (REQUEST | {"imp": {"id": "1"}}, "openrtb_request_without_imp"),
        (imps({"banner": {}}), "openrtb_imp_ids"),
        (imps(BANNER, BANNER), "openrtb_imp_ids"),
        (imps({"id": "1"}), "openrtb_imp_without_format"),
        (imps("1"), "openrtb_malformed"),
        (imps({"id": ["1"], "banner": {}}), "openrtb_malformed"),
        (imps(BANNER | {"bidfloor": "much"}), "openrtb_malformed"),
        (imps(BANNER | {"bidfloorcur": 978}), "openrtb_malformed"),
        (REQUEST | {"site": {"page": 5}}, "openrtb_malformed"),
        (REQUEST | {"site": {"page": []}}, "openrtb_malformed"),
        (REQUEST | {"site": {"page": {}}}, "openrtb_malformed"),
        (REQUEST | {"site": {"domain": ["a.example"]}}, "openrtb_malformed"),
        (REQUEST | {"site": "example.org"}, "openrtb_malformed"),
        (REQUEST | {"app": {"bundle": ["a"]}}, "openrtb_malformed"),
        (REQUEST | {"user": "u1"}, "openrtb_malformed"),
        (REQUEST | {"user": {"id": {"id": "k3j2", "atype": 1}}}, "openrtb_malformed"),
        (REQUEST | {"user": {"id": ["k3j2"]}}, "openrtb_malformed"),
        (REQUEST | {"user": {"id": False}}, "openrtb_malformed"),
        (REQUEST | {"tmax": "soon"}, "openrtb_malformed"),
        (REQUEST | {"tmax": float("inf")}, "openrtb_malformed"),
        (REQUEST | {"tmax": 1e30}, "openrtb_malformed"),
        (imps(BANNER | {"bidfloor": 10**400}), "openrtb_malformed"),
        ("[" * 5_000, "openrtb_malformed"),
        ("9" * 5_000, "openrtb_malformed"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_each_rule_of_a_request(request_, expected):
    assert read(request_)["rule"] == expected


@pytest.mark.parametrize(
    ("bids", "expected"),
    [
        ([], None),
        ("null", None),
        ([{}], None),
        ([{"price_cpm_usd": 0}], None),
        ([{"price_cpm_usd": -0.01}], "bid_price_negative"),
        ([{"price_cpm_usd": "much"}], "openrtb_malformed"),
        ([{"price_cpm_usd": "nan"}], "openrtb_malformed"),
        ([{"status": {}}], "openrtb_malformed"),
        ([{"bidder": ["one"]}], "openrtb_malformed"),
        ([{"latency_ms": 2**70}], "openrtb_malformed"),
        ([{"cur": ["USD"]}], "openrtb_malformed"),
        ("[oops", "openrtb_malformed"),
        ("[" * 5_000, "openrtb_malformed"),
        ("5", "openrtb_malformed"),
        ("{}", "openrtb_malformed"),
        ([5], "openrtb_malformed"),
        ([None], "openrtb_malformed"),
        ({"bidder": "one"}, "openrtb_malformed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_rule_of_bids(bids, expected):
    assert read(bids=bids)["rule"] == expected


def test_half_a_surrogate_pair_is_replaced():
    half = '"\\ud83d"'
    request = f'{{"id": {half}, "imp": [{{"id": {half}, "banner": {{}}}}], "user": {{"id": {half}}}}}'
    row = read(request, f'[{{"bidder": {half}}}]')
    assert (row["rule"], row["user_id"], row["bids"][0]["bidder"]) == (None, "?", "?")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["", "https://[", "http://a:b/", "\ud800", "USD", "1", 2**63, 10**400, -1, [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    *(("id",), ("imp",), ("imp", 0), ("imp", 0, "id"), ("imp", 0, "banner"), ("imp", 1, "bidfloor")),
    *(("imp", 1, "bidfloorcur"), ("site",), ("site", "page"), ("site", "domain"), ("app",), ("app", "bundle")),
    *(("user",), ("user", "id"), ("user", "buyeruid"), ("tmax",), ()),
]
FIELDS = ["bidder", "status", "no_bid_reason", "latency_ms", "price_cpm", "price_cpm_usd", "cur", None]


def changed(value, path, to):
    """Return JSON with something else at a path."""
    if not path:
        return to
    at, *rest = path
    return (
        [*value[:at], changed(value[at], rest, to), *value[at + 1 :]]
        if isinstance(at, int)
        else {**value, at: changed(value.get(at, {}), rest, to)}
    )


@settings(max_examples=400)
@given(st.sampled_from(PATHS), JSON, st.sampled_from(FIELDS), JSON)
def test_whatever_a_field_holds_the_answer_is_a_row(path, value, name, other):
    bid = other if name is None else {"bidder": "one", name: other}
    row = read(changed(REQUEST, path, value) if path or not isinstance(value, str) else value, [bid, BIDS[0]])
    assert set(row) == set(AUCTION)
    told = {"openrtb_malformed", "bid_price_negative", "openrtb_request_without_id", "openrtb_request_without_imp"}
    assert row["rule"] is None or row["rule"] in told | {"openrtb_imp_ids", "openrtb_imp_without_format"}


@settings(max_examples=200)
@given(st.text() | st.none(), st.text() | st.none())
def test_whatever_text_there_is_the_answer_is_a_row(request_, bids):
    assert set(read(request_, bids)) == set(AUCTION)
