from itertools import islice

import polars as pl
import pytest

from platform_assets.bronze.rtb_auctions import SCHEMA
from platform_assets.silver.rtb_auctions import parse_auctions
from resources.landing.folders import landed_files
from resources.settings import SettingsError, configure
from signals.documents.openrtb import AUCTION
from tests.support import SHARED

DATA = SHARED / "data"
REQUEST = {"id": "r1", "imp": [{"id": "1", "banner": {"w": 300}, "bidfloor": 0.8, "bidfloorcur": "EUR"}]}
ODD = [
    {"user": {"id": {"id": "k3j2", "atype": 1}}},
    {"user": {"id": ["k3j2"]}},
    {"site": {"page": []}},
    {"imp": [{"id": "1", "banner": {}, "bidfloor": "much"}]},
]


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Return a function that has the settings name a file of rates."""

    def name(text):
        (tmp_path / "rates.tsv").write_text(text)
        monkeypatch.setenv("CURRENCY_RATES", str(tmp_path / "rates.tsv"))
        configure()

    yield name
    monkeypatch.undo()
    configure()


def test_an_auction_is_opened_and_its_time_and_owner_are_filled_in(bronze):
    rows = parse_auctions(bronze(SCHEMA, {"auction_id": "a1", "request": REQUEST, "bids": [{"bidder": "one"}]}))
    row = rows.row(0, named=True)
    assert (row["auction_id"], row["tenant_id"], row["auction_time"]) == ("a1", "default", row["received_at"])
    assert {*AUCTION} <= {*row}
    assert "request" not in row
    assert row["bids"][0]["bidder"] == "one"


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_an_odd_auction_breaks_a_rule_and_stops_no_other(bronze, odd):
    records = [{"auction_id": "good", "request": REQUEST}, {"auction_id": "odd", "request": REQUEST | odd}]
    found = parse_auctions(bronze(SCHEMA, *records, records[0] | {"auction_id": "also good"}))
    assert found.select("auction_id", "rule").rows() == [
        ("good", None),
        ("odd", "openrtb_malformed"),
        ("also good", None),
    ]


@pytest.mark.parametrize(("winner", "expected"), [("", None), ("  ", None), (None, None), ("one", "one")])
def test_a_blank_winner_is_no_win(bronze, winner, expected):
    assert parse_auctions(bronze(SCHEMA, {"auction_id": "a", "winner": winner}))["winner"].to_list() == [expected]


def test_a_floor_is_converted_at_the_rate_of_the_auctions_day(bronze, use):
    times = ["2026-11-01T23:59:59Z", "2026-11-02T00:00:00Z", "2026-11-03T10:00:00Z"]
    rows = bronze(SCHEMA, *({"auction_id": t, "auction_time": t, "request": REQUEST} for t in times))
    stated = parse_auctions(rows)
    assert stated["floor_cpm_usd"].to_list() == [None] * 3
    assert stated.select("floor_cpm", "floor_currency").unique().rows() == [(0.8, "EUR")]
    use("2026-11-02\tEUR\t1.25\n2026-11-03\tEUR\t1.5\n")
    assert parse_auctions(rows)["floor_cpm_usd"].to_list() == [None, 1.0, 1.2]


def test_rates_that_cannot_be_read_are_told_in_one_line(bronze, use):
    use("2026-11-02 EUR\n")
    with pytest.raises(SettingsError, match=r"CURRENCY_RATES: .*rates.tsv, line 1: date"):
        parse_auctions(bronze(SCHEMA, {"auction_id": "a"}))


def test_rows_out_are_rows_in(bronze):
    rows = [{"auction_id": str(i), "request": REQUEST if i % 2 else {"imp": []}} for i in range(6)]
    found = parse_auctions(bronze(SCHEMA, *rows).reverse())
    assert found["auction_id"].to_list() == [str(i) for i in reversed(range(6))]
    assert found["rule"].to_list() == [None, "openrtb_request_without_id"] * 3
    assert parse_auctions(bronze(SCHEMA)).is_empty()


def test_real_requests_and_fixtures_are_read(bronze):
    if not (DATA / "rtb_openrtb").exists():
        pytest.skip(f"{DATA / 'rtb_openrtb'} is not here")
    files = [file for file in landed_files(DATA, "rtb_auctions") if file.name.startswith("rtb_openrtb")]
    records = [record.fields for file in files for record in file.read(file.path, 10_000_000)]
    assert len(records) == 178
    found = parse_auctions(bronze(SCHEMA, *records))
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
    found = parse_auctions(bronze(SCHEMA, *records))
    assert found["rule"].null_count() == found["format"].null_count() == 500
    assert found["market_price"].min() >= 0
