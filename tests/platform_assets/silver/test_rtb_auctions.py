from itertools import islice
from pathlib import Path

import polars as pl
import pytest

from platform_assets.bronze.rtb_auctions import EXPECTED
from platform_assets.silver.rtb_auctions import SCHEMA, opened
from resources.landing import landed_files

DATA = Path(__file__).parents[3].parent / "shared" / "data"
REQUEST = {
    "id": "r1",
    "imp": [{"id": "1", "banner": {"w": 300}, "bidfloor": 0.5}, {"id": "2", "video": {}, "bidfloor": 1.25}],
    "site": {"page": "https://WWW.Example.org/a#x"},
    "user": {"id": "u1", "buyeruid": "b1"},
    "tmax": 120,
}
BIDS = [
    {"bidder": "one", "status": "bid", "price_cpm_usd": 2.5, "latency_ms": 40, "response": {"id": "x"}},
    {"bidder": "two", "status": "no_bid", "no_bid_reason": 2},
]


def auction(bronze, request=REQUEST, bids=BIDS):
    fields = {"auction_id": "a1", "request": request, "bids": bids}
    rows = bronze(EXPECTED, {name: value for name, value in fields.items() if value is not None})
    return opened(rows).row(0, named=True)


def rule(bronze, request=REQUEST, bids=BIDS):
    return auction(bronze, request, bids)["rule"]


def test_a_request_and_its_bids_are_reduced_to_what_is_analysed(bronze):
    row = auction(bronze)
    assert {name: row[name] for name in SCHEMA} == {
        "url": "https://WWW.Example.org/a#x",
        "document_id": "https://www.example.org/a",
        "site": "example.org",
        "user_id": "u1",
        "format": "banner",
        "imps": 2,
        "floor_cpm_usd": 1.25,
        "timeout_ms": 120,
        "bids": [
            {"bidder": "one", "status": "bid", "no_bid_reason": None, "latency_ms": 40, "price_cpm_usd": 2.5},
            {"bidder": "two", "status": "no_bid", "no_bid_reason": 2, "latency_ms": None, "price_cpm_usd": None},
        ],
        "rule": None,
    }
    assert (row["auction_id"], row["tenant_id"], row["auction_time"]) == ("a1", "default", row["received_at"])
    assert {"request", "bids"} & set(row) == {"bids"}


def test_what_a_request_leaves_out_is_null(bronze):
    row = auction(bronze, {"id": "r", "imp": [{"id": "1", "native": {}}]}, None)
    assert (row["url"], row["document_id"], row["site"], row["user_id"], row["timeout_ms"]) == (None,) * 5
    assert (row["format"], row["imps"], row["floor_cpm_usd"], row["bids"]) == ("native", 1, 0.0, [])


def test_an_auction_of_a_source_without_requests_is_kept(bronze):
    row = auction(bronze, None, None)
    assert (row["rule"], row["format"], row["bids"]) == (None, None, [])


@pytest.mark.parametrize("name", ["banner", "video", "audio", "native"])
def test_the_format_is_that_of_the_first_impression(bronze, name):
    assert auction(bronze, {"id": "r", "imp": [{"id": "1", name: {}}, {"id": "2", "banner": {}}]})["format"] == name


def imps(*items):
    return REQUEST | {"imp": list(items)}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("not json", "openrtb_malformed"),
        ([1], "openrtb_request_without_id"),
        ({"imp": [{"id": "1", "banner": {}}]}, "openrtb_request_without_id"),
        (REQUEST | {"id": ""}, "openrtb_request_without_id"),
        ({"id": "r"}, "openrtb_request_without_imp"),
        (imps(), "openrtb_request_without_imp"),
        (REQUEST | {"imp": {"id": "1"}}, "openrtb_request_without_imp"),
        (imps({"banner": {}}), "openrtb_imp_ids"),
        (imps({"id": "1", "banner": {}}, {"id": "1", "banner": {}}), "openrtb_imp_ids"),
        (imps({"id": "1"}), "openrtb_imp_without_format"),
        (imps("1"), "openrtb_malformed"),
        (imps({"id": ["1"], "banner": {}}), "openrtb_malformed"),
        (imps({"id": "1", "banner": {}, "bidfloor": "much"}), "openrtb_malformed"),
        (REQUEST | {"site": {"page": 5}}, "openrtb_malformed"),
        (REQUEST | {"site": "example.org"}, "openrtb_malformed"),
        (REQUEST | {"user": "u1"}, "openrtb_malformed"),
        (REQUEST | {"tmax": "soon"}, "openrtb_malformed"),
    ],
)
def test_each_rule_of_a_request(bronze, request_, expected):
    row = auction(bronze, request_)
    assert row["rule"] == expected
    assert row["auction_id"] == "a1"


@pytest.mark.parametrize(
    ("bids", "expected"),
    [
        ([], None),
        ([{}], None),
        ([{"price_cpm_usd": 0}], None),
        ([{"price_cpm_usd": -0.01}], "bid_price_negative"),
        ([{"price_cpm_usd": "much"}], "openrtb_malformed"),
        ("[oops", "openrtb_malformed"),
        ("5", "openrtb_malformed"),
        ([5], "openrtb_malformed"),
        ({"bidder": "one"}, "openrtb_malformed"),
    ],
)
def test_each_rule_of_bids(bronze, bids, expected):
    assert rule(bronze, bids=bids) == expected


@pytest.mark.parametrize(
    ("request_", "bids"),
    [
        (REQUEST | {"tmax": float("inf")}, None),
        (REQUEST | {"tmax": 1e30}, None),
        (imps({"id": "1", "banner": {}, "bidfloor": 10**400}), None),
        ("[" * 5_000, None),
        (REQUEST, "[" * 5_000),
    ],
    ids=["infinite time", "large time", "large floor", "deep request", "deep bids"],
)
def test_what_no_number_holds_is_malformed(bronze, request_, bids):
    assert rule(bronze, request_, bids) == "openrtb_malformed"


@pytest.mark.parametrize("bid", [{"status": {}}, {"bidder": ["one"]}, {"latency_ms": 2**70}, {"price_cpm_usd": "nan"}])
def test_a_bid_whose_fields_are_of_another_type_is_malformed(bronze, bid):
    assert rule(bronze, bids=[bid]) == "openrtb_malformed"


def test_rows_out_are_rows_in(bronze):
    rows = [{"auction_id": str(i), "request": REQUEST if i % 2 else {"imp": []}} for i in range(6)]
    found = opened(bronze(EXPECTED, *rows).reverse())
    assert found["auction_id"].to_list() == [str(i) for i in reversed(range(6))]
    assert found["rule"].to_list() == [None, "openrtb_request_without_id"] * 3
    assert opened(bronze(EXPECTED)).is_empty()


def test_real_requests_and_fixtures_are_read(bronze):
    if not (DATA / "rtb_openrtb").exists():
        pytest.skip(f"{DATA / 'rtb_openrtb'} is not here")
    files = [file for file in landed_files(DATA, "rtb_auctions") if file.name.startswith("rtb_openrtb")]
    records = [record.fields for file in files for record in file.read(file.path, 10_000_000)]
    assert len(records) == 178
    found = opened(bronze(EXPECTED, *records))
    assert found.height == len(records)
    rules = dict(found.select(pl.col("auction_id").str.split("/").list.last(), "rule").rows())
    fixtures = found.filter(pl.col("auction_id").str.contains("prebid_adapter_fixtures"))
    assert fixtures["rule"].null_count() == fixtures.height == 59
    assert fixtures.filter(pl.col("bids").list.len() > 0).height > 40
    assert fixtures["imps"].min() == 1
    assert fixtures["format"].null_count() == 0
    assert rules["testdata__breq.banner.json"] is None
    assert rules["testdata__bres.vast.json"] == "openrtb_request_without_imp"
    assert rules["testdata__banner.json"] == "openrtb_request_without_id"
    assert rules["invalid-whole__imp-empty-array.json"] == "openrtb_request_without_imp"
    assert rules["invalid-whole__imp-id-duplicates.json"] == "openrtb_imp_ids"
    assert rules["invalid-whole__imp-empty-object.json"] == "openrtb_imp_ids"


def test_real_auctions_without_requests_keep_their_price(bronze):
    if not (DATA / "rtb_ipinyou_2997").exists():
        pytest.skip(f"{DATA / 'rtb_ipinyou_2997'} is not here")
    (file,) = [file for file in landed_files(DATA, "rtb_auctions") if file.name.startswith("rtb_ipinyou_2997")]
    records = [record.fields for record in islice(file.read(file.path, 10_000_000), 500)]
    found = opened(bronze(EXPECTED, *records))
    assert found["rule"].null_count() == found["format"].null_count() == 500
    assert found["market_price"].min() >= 0
