from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from platform_assets.bronze.ad_events import EXPECTED
from platform_assets.bronze.inventory import EXPECTED as INVENTORY
from platform_assets.silver.ad_events import on_pages

EVENT = {"event_id": "e1", "event_type": "click", "url": "https://WWW.Example.org:443/a#x"}


def test_an_event_names_its_page_and_site(bronze):
    row = on_pages(bronze(EXPECTED, EVENT | {"event_time": "2026-11-09T08:00:00Z"}), "event_time").row(0, named=True)
    assert (row["url"], row["document_id"], row["site"]) == (EVENT["url"], "https://www.example.org/a", "example.org")
    assert (row["event_time"], row["tenant_id"]) == (datetime(2026, 11, 9, 8, tzinfo=UTC), "default")


def test_what_is_not_given_is_filled_in_or_null(bronze):
    row = on_pages(bronze(EXPECTED, {"event_id": "e1", "tenant_id": "acme"}), "event_time").row(0, named=True)
    assert (row["event_time"], row["tenant_id"]) == (row["received_at"], "acme")
    assert (row["url"], row["document_id"], row["site"]) == (None, None, None)


def test_snapshots_of_placements_are_named_the_same_way(bronze):
    row = on_pages(bronze(INVENTORY, {"snapshot_id": "s1", "url": EVENT["url"]}), "observed_at").row(0, named=True)
    assert (row["document_id"], row["observed_at"]) == ("https://www.example.org/a", row["received_at"])


def test_every_event_comes_out_and_the_earliest_delivery_first(bronze):
    later = bronze(EXPECTED, EVENT, now=datetime(2026, 11, 10, 12, tzinfo=UTC) + timedelta(hours=1))
    events = [EVENT | {"event_id": str(i), "url": f"https://example.org/{i % 3}"} for i in range(7)]
    found = on_pages(pl.concat([later, bronze(EXPECTED, *events).reverse()]), "event_time")
    assert found["event_id"].to_list() == [*(str(i) for i in range(7)), "e1"]
    assert found["document_id"].to_list()[:4] == [f"https://example.org/{i % 3}" for i in range(4)]


def test_nothing_in_nothing_out(bronze):
    found = on_pages(bronze(EXPECTED), "event_time")
    assert found.is_empty()
    assert found.schema["document_id"] == pl.String


@pytest.mark.parametrize("url", ["http://[bad/", "http://example.org:port/"])
def test_a_hostile_address_does_not_stop_the_others(bronze, url):
    found = on_pages(bronze(EXPECTED, EVENT, {"event_id": "e2", "url": url}), "event_time")
    assert found["event_id"].to_list() == ["e1", "e2"]
    assert found["site"][0] == "example.org"
