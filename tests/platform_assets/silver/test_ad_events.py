from datetime import UTC, date, datetime

import polars as pl
import pytest

from platform_assets.aliases import Aliases
from platform_assets.bronze.ad_events import SCHEMA
from platform_assets.bronze.inventory import SCHEMA as INVENTORY
from platform_assets.silver.ad_events import with_documents
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse

EVENT = {"event_id": "e1", "event_type": "click", "url": "https://WWW.Example.org:443/a#x"}


@pytest.fixture
def nowhere(tmp_path):
    """What a lakehouse without pages knows of addresses."""
    return Aliases(Lakehouse(uri=str(tmp_path / "empty")))


def test_an_event_names_its_page_and_site(bronze, nowhere):
    row = with_documents(bronze(SCHEMA, EVENT | {"event_time": "2026-11-09T08:00:00Z"}), "event_time", nowhere).row(
        0, named=True
    )
    assert (row["url"], row["document_id"], row["site"]) == (EVENT["url"], "https://www.example.org/a", "example.org")
    assert (row["event_time"], row["tenant_id"]) == (datetime(2026, 11, 9, 8, tzinfo=UTC), "default")


def test_what_is_not_given_is_filled_in_or_null(bronze, nowhere):
    row = with_documents(bronze(SCHEMA, {"event_id": "e1", "tenant_id": "acme"}), "event_time", nowhere).row(
        0, named=True
    )
    assert (row["event_time"], row["tenant_id"]) == (row["received_at"], "acme")
    assert (row["url"], row["document_id"], row["site"]) == (None, None, None)


def test_snapshots_of_placements_are_named_the_same_way(bronze, nowhere):
    row = with_documents(bronze(INVENTORY, {"snapshot_id": "s1", "url": EVENT["url"]}), "observed_at", nowhere).row(
        0, named=True
    )
    assert (row["document_id"], row["observed_at"]) == ("https://www.example.org/a", row["received_at"])


def test_every_event_comes_out_in_its_place(bronze, nowhere):
    events = [EVENT | {"event_id": str(i % 5), "url": f"https://example.org/{i % 3}"} for i in range(7)]
    found = with_documents(bronze(SCHEMA, *events).reverse(), "event_time", nowhere)
    assert found["position"].to_list() == [7, 6, 5, 4, 3, 2, 1]
    assert found["document_id"].to_list() == [f"https://example.org/{i % 3}" for i in reversed(range(7))]


def test_an_event_under_another_address_of_a_page_is_about_its_document(bronze, tmp_path):
    lake, canonical = Lakehouse(uri=str(tmp_path)), "https://example.org/canonical"
    fetch = {"tenant_id": "default", "normalized_url": "https://www.example.org/a", "document_id": canonical}
    pages = pl.DataFrame([fetch | {"fetched_at": datetime(2026, 11, 1, tzinfo=UTC), DAY: date(2026, 11, 1)}])
    lake.insert_missing("silver/pages", pages, ["normalized_url"])
    row = with_documents(bronze(SCHEMA, EVENT), "event_time", Aliases(lake)).row(0, named=True)
    assert (row["normalized_url"], row["document_id"], row["site"]) == (
        fetch["normalized_url"],
        canonical,
        "example.org",
    )


def test_nothing_in_nothing_out(bronze, nowhere):
    found = with_documents(bronze(SCHEMA), "event_time", nowhere)
    assert found.is_empty()
    assert found.schema["document_id"] == pl.String


@pytest.mark.parametrize("url", ["http://[bad/", "http://example.org:port/"])
def test_a_hostile_address_does_not_stop_the_others(bronze, url, nowhere):
    found = with_documents(bronze(SCHEMA, EVENT, {"event_id": "e2", "url": url}), "event_time", nowhere)
    assert found["event_id"].to_list() == ["e1", "e2"]
    assert found["site"][0] == "example.org"
