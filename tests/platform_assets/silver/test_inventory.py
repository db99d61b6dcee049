"""Landed ads.txt, sellers.json and snapshots to silver/inventory, as the assets make it."""

import gzip
import json
import os
import shutil
from datetime import UTC, datetime

import dagster as dg
import hypothesis
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.aliases import Aliases
from platform_assets.bronze.inventory import SCHEMA as SNAPSHOTS
from platform_assets.bronze.inventory import inventory as bronze_inventory
from platform_assets.bronze.seller_declarations import SCHEMA, seller_declarations
from platform_assets.ingestion import has_unread, ingest
from platform_assets.parsing import parse_records
from platform_assets.publishing import QUARANTINE
from platform_assets.silver.inventory import inventory, with_sellers
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from resources.landing.folders import landed_files
from resources.settings import PROJECT, configure, settings
from tests.support import SHARED

DAY = "2026-11-10"
ADS_TXT = "# ours\nx.example, 1, DIRECT\ny.example, 2, RESELLER\noops\n"
DATA = SHARED / "data"


class Landing:
    """A landing folder, and the lakehouse that it is ingested into."""

    def __init__(self, folder):
        self.root, self.lake = folder / "landing", Lakehouse(uri=str(folder / "lake"))

    def put(self, name, content, *, written=None):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        if written:
            os.utime(path, (written, written))
        return path

    def offer(self, *offers):
        rows = [
            {
                "snapshot_id": f"s{number}", "observed_at": f"{DAY}T08:00:00Z", "url": "https://www.a.example/page",
                "avails": 10, "filled": 5, "exchange": exchange, "seller_id": seller_id,
            }
            for number, (exchange, seller_id) in enumerate(offers)
        ]  # fmt: skip
        self.put("inventory/a.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))

    def ingest(self, expected=SCHEMA, root=None):
        return ingest(self.lake, expected, landed_files(root or self.root, expected.folder), datetime.now(UTC))

    def declared(self):
        rows = self.lake.read(SCHEMA.table).filter(pl.col("record") != "end").sort("source", "position")
        return rows.select("seller_id").to_series().to_list()

    def said(self):
        """Return what the declarations say now of the snapshots that are in bronze."""
        rows = with_sellers(self.lake.read(SNAPSHOTS.table), self.lake, Aliases(self.lake)).sort("snapshot_id")
        return rows["authorisation_reason"].to_list()

    def materialise(self, *assets):
        kept = settings()
        configure(landing=self.root)
        try:
            run = dg.materialize(list(assets), partition_key=DAY, resources={"lakehouse": self.lake})
        finally:
            configure(**kept.model_dump())
        assert run.success
        assert all(check.passed for check in run.get_asset_check_evaluations())


@pytest.fixture
def landing(tmp_path):
    return Landing(tmp_path)


def test_the_assets_say_of_each_snapshot_whether_its_seller_may_sell_it(landing):
    landing.put("supply_chain/a.example/ads.txt", ADS_TXT)
    sellers = [{"seller_id": "1", "seller_type": "PUBLISHER", "domain": "b.example"}]
    landing.put("supply_chain/x.example/sellers.json.gz", json.dumps({"sellers": sellers}))
    landing.offer(("x.example", "1"), ("Y.example", "2"), ("y.example", "3"), (None, None))
    landing.materialise(bronze_inventory, seller_declarations, inventory)
    found = landing.lake.read("silver/inventory").sort("snapshot_id")
    assert found.select("authorisation", "authorisation_reason").rows() == [
        ("unauthorised", "other_domain"),
        ("authorised", "reseller"),
        ("unauthorised", "not_in_ads_txt"),
        ("unknown", "no_seller"),
    ]
    assert found["site"].to_list() == ["a.example"] * 4
    broken = landing.lake.read(QUARANTINE).select("table", "source", "rule")
    assert broken.rows() == [(SCHEMA.table, "supply_chain/a.example/ads.txt", "too_few_fields")]
    assert stale_days(landing.lake, "silver/inventory", ["bronze/inventory"], streamed=True) == []


def test_every_line_says_whose_it_is_and_where_it_stands(landing):
    path = landing.put("supply_chain/WWW.A.example/ads.txt", ADS_TXT)
    landing.ingest()
    row = landing.lake.read(SCHEMA.table).sort("position").row(1, named=True)
    assert (row["declared_by"], row["document"], row["line"]) == ("a.example", "ads.txt", 3)
    assert (row["source"], row["position"] % 1_000_000) == ("supply_chain/WWW.A.example/ads.txt", 3)
    assert abs(row["fetched_at"].timestamp() - path.stat().st_ctime) < 0.01


def test_a_replaced_file_is_read_anew_and_decides(landing):
    name, before = "supply_chain/a.example/ads.txt", "x.example, 1, DIRECT\nx.example, 2, DIRECT\n"
    landing.offer(("x.example", "1"), ("x.example", "3"))
    landing.ingest(SNAPSHOTS)
    landing.put(name, before, written=1_790_000_000)
    assert landing.ingest() == {"rows_in": 3, "rows_out": 3, "rows_quarantined": 0, "rows_suppressed": 0, "files": 1}
    assert landing.ingest()["files"] == 0
    assert landing.said() == ["direct", "not_in_ads_txt"]
    # As long as it was, and no longer.
    landing.put(name, before.replace(" 1,", " 3,"), written=1_790_000_100)
    assert landing.ingest()["rows_in"] == 3
    assert landing.said() == ["not_in_ads_txt", "direct"]
    landing.put(name, "x.example, 3, DIRECT\noops", written=1_790_000_200)
    assert landing.ingest() == {"rows_in": 3, "rows_out": 2, "rows_quarantined": 1, "rows_suppressed": 0, "files": 1}
    # The first one, put back with the time at which it was written then.
    landing.put(name, before, written=1_790_000_000)
    assert landing.ingest()["rows_in"] == 3
    assert landing.said() == ["direct", "not_in_ads_txt"]
    assert landing.declared() == ["1", "2", "3", "2", "3", "1", "2"]
    rows = landing.lake.read(SCHEMA.table)
    assert rows.height == rows.select("source", "position").n_unique() == 11
    assert landing.ingest()["files"] == 0


def test_a_copied_landing_folder_holds_nothing_new(landing, tmp_path):
    landing.put("supply_chain/a.example/ads.txt", ADS_TXT)
    landing.ingest()
    shutil.copytree(landing.root, tmp_path / "copied")
    assert landing.ingest(root=tmp_path / "copied")["rows_in"] == 0


def test_a_file_that_is_written_again_as_it_was_is_no_new_version_and_one_that_grew_is_a_whole_one(landing):
    path = landing.put("supply_chain/a.example/ads.txt", "x.example, 1, DIRECT\n")
    landing.ingest()
    path.touch()
    assert landing.ingest()["rows_in"] == 0
    landing.put("supply_chain/a.example/ads.txt", "x.example, 1, DIRECT\nx.example, 2, DIRECT\n")
    assert landing.ingest()["rows_in"] == 3
    landing.offer(("x.example", "1"), ("x.example", "2"))
    landing.ingest(SNAPSHOTS)
    assert landing.said() == ["direct", "direct"]


def test_a_file_that_is_written_after_a_kill_in_the_middle_of_it_is_read_as_a_whole(landing, monkeypatch):
    monkeypatch.setattr("resources.landing.increments.CHUNK", 4)
    path = landing.put("supply_chain/a.example/ads.txt", "".join(f"x.example, {n}, DIRECT\n" for n in range(10)))
    landing.offer(("x.example", "1"), ("x.example", "9"))
    landing.ingest(SNAPSHOTS)

    class Dying(Lakehouse):
        def append_once(self, table, rows, before, after):
            if table == SCHEMA.table and rows["seller_id"].str.contains("7").any():
                raise InterruptedError
            super().append_once(table, rows, before, after)

    with pytest.raises(InterruptedError):
        ingest(Dying(uri=landing.lake.uri), SCHEMA, landed_files(landing.root, SCHEMA.folder), datetime.now(UTC))
    path.touch()
    assert landing.ingest()["rows_in"] == 11
    assert landing.said() == ["direct", "direct"]
    assert landing.ingest()["files"] == 0


def test_a_version_that_cannot_be_read_leaves_the_one_before_it_in_force(landing):
    landing.put("supply_chain/a.example/ads.txt.gz", "x.example, 1, DIRECT\n", written=1_790_000_000)
    landing.put("supply_chain/x.example/sellers.json", '{"sellers": [{"seller_id": "1", "seller_type": "BOTH"}]}')
    landing.offer(("x.example", "1"))
    landing.ingest(SNAPSHOTS)
    landing.ingest()
    path = landing.put("supply_chain/a.example/ads.txt.gz", "x.example, 2, DIRECT\n" * 50)
    path.write_bytes(path.read_bytes()[:-9])
    landing.put("supply_chain/x.example/sellers.json", '{"sellers": [', written=1_790_000_500)
    assert landing.ingest()["rows_quarantined"] == 2
    assert sorted(landing.lake.read(QUARANTINE)["rule"]) == ["corrupt_file", "not_json"]
    assert landing.said() == ["direct"]


def test_a_kill_in_the_middle_of_a_file_goes_on_where_it_was(landing, monkeypatch):
    monkeypatch.setattr("resources.landing.increments.CHUNK", 4)
    landing.put("supply_chain/a.example/ads.txt", "".join(f"x.example, {n}, DIRECT\n" for n in range(10)))
    landing.offer(("x.example", "1"))
    landing.ingest(SNAPSHOTS)

    class Dying(Lakehouse):
        def append_once(self, table, rows, before, after):
            if table == SCHEMA.table and rows["seller_id"].str.contains("7").any():
                raise InterruptedError
            super().append_once(table, rows, before, after)

    with pytest.raises(InterruptedError):
        ingest(Dying(uri=landing.lake.uri), SCHEMA, landed_files(landing.root, SCHEMA.folder), datetime.now(UTC))
    assert landing.declared() == ["0", "1", "2", "3"]
    assert landing.said() == ["no_ads_txt"]
    assert landing.ingest()["rows_in"] == 7
    assert landing.declared() == [str(n) for n in range(10)]
    assert landing.said() == ["direct"]


FRAGMENTS = [b"x.example", b",", b"1", b"DIRECT", b"\n", b"\r", b"=", b"#", b"\xff", b"{", b'"sellers": [', b"]", b"\0"]


@hypothesis.settings(deadline=None, max_examples=60)
@given(st.sampled_from(["ads.txt", "sellers.json", "ads.txt.gz"]), st.lists(st.sampled_from(FRAGMENTS)).map(b"".join))
def test_any_bytes_are_rows_or_quarantined(tmp_path_factory, name, content):
    root = tmp_path_factory.mktemp("any")
    path = root / "supply_chain" / "a.example" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (file,) = landed_files(root, SCHEMA.folder)
    records = list(file.read(path, 10_000))
    rows, broken = parse_records(records, SCHEMA, file.name, datetime.now(UTC))
    assert rows.height + broken.height == len(records) == len({record.position for record in records})
    lost = (name.endswith(".gz") and content) or broken["rule"].is_in(["not_json", "no_sellers"]).any()
    assert (rows["record"] == "end").sum() == (0 if lost else 1)


def test_the_samples_show_each_case(landing):
    for folder in (SCHEMA, SNAPSHOTS):
        landing.ingest(folder, PROJECT / "samples")
    reasons = dict(pl.Series(landing.said()).value_counts().rows())
    assert reasons == {
        "direct": 929, "reseller": 65, "no_seller": 55, "no_ads_txt": 43, "not_in_ads_txt": 40, "other_domain": 23,
        "not_in_sellers_json": 22,
    }  # fmt: skip


def test_the_real_files_are_read_to_the_last_line(landing):
    folder = DATA / "rtb_openrtb/supply_chain"
    if not folder.is_dir():
        pytest.skip("the shared data with a real ads.txt and sellers.json is not here")
    assert landing.ingest(root=DATA)["rows_quarantined"] == 0
    rows = landing.lake.read(SCHEMA.table).filter(record="seller")
    assert dict(rows["document"].value_counts().rows()) == {"ads.txt": 234, "sellers.json": 45}
    assert set(rows["declared_by"]) == {"1xsmp.lol", "admaru.com"}
    lines = [line for line in (folder / "ads.txt").read_text().splitlines() if line.strip()]
    assert len(lines) == 234
    assert set(rows["relationship"].drop_nulls()) == {"DIRECT", "RESELLER"}
    landing.put(
        "inventory/real.jsonl",
        "".join(
            json.dumps({"snapshot_id": one, "url": "https://1xsmp.lol/", "exchange": "openx.com", "seller_id": one})
            + "\n"
            for one in ("540105370", "537151081", "000000000")
        ),
    )
    landing.ingest(SNAPSHOTS)
    assert landing.said() == ["not_in_ads_txt", "reseller", "direct"]


def test_a_file_that_waits_is_seen(landing):
    kept = settings()
    configure(landing=landing.root)
    try:
        assert has_unread(landing.lake, SCHEMA), "a table that does not exist yet"
        landing.ingest()
        assert not has_unread(landing.lake, SCHEMA)
        landing.put("supply_chain/a.example/ads.txt", ADS_TXT, written=1_790_000_000)
        assert has_unread(landing.lake, SCHEMA)
        landing.ingest()
        assert not has_unread(landing.lake, SCHEMA)
        landing.put("supply_chain/a.example/ads.txt", ADS_TXT, written=1_790_000_100)
        assert has_unread(landing.lake, SCHEMA)
    finally:
        configure(**kept.model_dump())
