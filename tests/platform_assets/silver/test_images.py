import base64
import hashlib
import io
from datetime import UTC, datetime

import polars as pl
import pytest
from PIL import Image

from platform_assets.bronze.page_fetches import SCHEMA
from platform_assets.publishing import quarantine, to_broken_rows
from platform_assets.silver import images as images_table
from platform_assets.silver.images import unpacked, with_unreadable
from resources.lakehouse.tables import Lakehouse
from resources.landing.budgets import MAX_PICTURES_PER_RECORD
from signals.consumer_record import worst_picture

PAGE = "http://Example.org/story#top"


def picture(colour="red", size=(20, 10), kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()


def embedded(body, url="http://example.org/a.png"):
    return {"url": url, "data": base64.b64encode(body).decode()}


def rules(found):
    return found["rule"].to_list()


def test_a_picture_fetched_by_itself(bronze):
    body = picture(kind="JPEG")
    fetch = {"url": "http://Example.org/a.jpg#x", "content_type": "image/jpeg", "body": body, "tenant_id": "acme"}
    row = unpacked(bronze(SCHEMA, fetch)).row(0, named=True)
    assert (row["document_id"], row["page_url"], row["rule"]) == ("http://example.org/a.jpg", None, None)
    assert (row["format"], row["width"], row["height"], row["bytes"]) == ("jpeg", 20, 10, len(body))
    assert row["content_hash"] == hashlib.sha256(body).hexdigest()
    assert (row["body"], row["tenant_id"], row["ordinal"]) == (body, "acme", 0)
    assert row["fetched_at"] == datetime(2026, 11, 10, 12, tzinfo=UTC)


def test_pictures_that_came_with_a_page_in_their_order(bronze):
    images = [embedded(picture("red")), embedded(picture("blue"), "https://cdn.example/b.png")]
    found = unpacked(bronze(SCHEMA, {"url": PAGE, "images": images}))
    assert found.select("document_id", "page_url", "ordinal", "rule").rows() == [
        ("http://example.org/a.png", PAGE, 0, None),
        ("https://cdn.example/b.png", PAGE, 1, None),
    ]
    assert found["content_hash"].n_unique() == 2


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        (embedded(b"no picture"), "image_undecodable"),
        (embedded(b""), "image_undecodable"),
        (embedded(picture()[:50]), "image_undecodable"),
        ({"url": "http://example.org/a.png", "data": "not base64!"}, "image_unreadable"),
        ({"url": "http://example.org/a.png", "data": 5}, "image_unreadable"),
        ({"url": "http://example.org/a.png"}, "image_unreadable"),
        ({"data": "AAAA"}, "image_unreadable"),
        ({"url": "http://[bad/", "data": "AAAA"}, "image_unreadable"),
        ("http://example.org/a.png", "image_unreadable"),
        (None, "image_unreadable"),
    ],
)
def test_what_is_no_picture_names_its_rule_and_leaves_the_others(bronze, item, rule):
    found = unpacked(bronze(SCHEMA, {"url": PAGE, "images": [embedded(picture()), item, embedded(picture("blue"))]}))
    assert rules(found) == [None, rule, None]
    assert found["page_url"].to_list() == [PAGE] * 3
    assert found["ordinal"].to_list() == [0, 1, 2]


@pytest.mark.parametrize("images", ["a.png", {"url": "http://example.org/a.png"}])
def test_what_is_no_list_names_its_rule(bronze, images):
    assert rules(unpacked(bronze(SCHEMA, {"url": PAGE, "images": images}))) == ["images_not_a_list"]


def test_a_fetched_picture_that_cannot_be_decoded_names_its_rule(bronze):
    fetches = [{"url": PAGE, "content_type": "image/png", "body": b"x"}, {"url": PAGE, "content_type": "image/png"}]
    assert rules(unpacked(bronze(SCHEMA, *fetches))) == ["image_undecodable"] * 2


def test_an_empty_list_and_no_fetch_hold_no_picture(bronze):
    assert unpacked(bronze(SCHEMA, {"url": PAGE, "images": []})).is_empty()
    assert unpacked(bronze(SCHEMA)).is_empty()


def test_a_list_that_is_no_json_names_its_rule(bronze):
    assert rules(unpacked(bronze(SCHEMA, {"url": PAGE, "images": "[oops"}))) == ["images_not_a_list"]


def test_a_fetched_picture_with_a_hostile_address_does_not_stop_the_others(bronze):
    fetch = {"content_type": "image/png", "body": picture()}
    assert unpacked(bronze(SCHEMA, fetch | {"url": "http://[bad/"}, fetch | {"url": PAGE})).height == 2


def test_a_relative_address_is_that_of_the_page(bronze):
    found = unpacked(bronze(SCHEMA, {"url": PAGE, "images": [embedded(picture(), "/a.png")]}))
    assert found["document_id"].to_list() == ["http://example.org/a.png"]


def test_so_many_pictures_of_a_record_are_looked_at_and_no_more(bronze):
    one, more = embedded(picture()), 7
    found = unpacked(bronze(SCHEMA, {"url": PAGE, "images": [one] * (MAX_PICTURES_PER_RECORD + more)}))
    assert rules(found) == [None] * MAX_PICTURES_PER_RECORD + [f"too_many_pictures:{MAX_PICTURES_PER_RECORD + more}"]


def test_so_many_pixels_of_a_record_are_decoded_and_no_more(bronze, monkeypatch):
    monkeypatch.setattr(images_table, "MAX_PIXELS_PER_RECORD", 500)
    sizes = [(20, 10), (20, 20), (20, 10), (20, 15), (1, 1)]
    found = unpacked(bronze(SCHEMA, {"url": PAGE, "images": [embedded(picture(size=size)) for size in sizes]}))
    assert rules(found) == [None, "too_many_pixels:400", None, "too_many_pixels:300", None]


@pytest.mark.parametrize(
    ("rule", "risk"),
    [
        (None, None),
        ("image_undecodable", "unknown"),
        ("too_many_pictures:99", "unknown"),
        ("raised:ValueError", "unknown"),
        ("large_enough", None),
        ("duplicate_key", None),
    ],
)
def test_a_page_with_a_picture_that_nobody_can_read_is_not_known_to_be_safe(bronze, tmp_path, rule, risk):
    lake = Lakehouse(uri=str(tmp_path))
    page = bronze(SCHEMA, {"url": PAGE}).with_columns(tenant_id=pl.lit("t"), fetched_at="received_at")
    broken = page.with_columns(rule=pl.lit(rule)).filter(pl.col("rule").is_not_null())
    quarantine(lake, "silver/images", to_broken_rows(broken))
    quarantine(lake, "silver/pages", to_broken_rows(page.with_columns(rule=pl.lit("too_short"))))
    images = with_unreadable(unpacked(bronze(SCHEMA)).drop("rule"), page, lake)
    nothing = dict.fromkeys(("tenant_id", "document_id", "content_hash", "task", "label"), pl.String)
    seen = worst_picture(images, pl.DataFrame(schema=nothing | {"event_date": pl.Date, "score": pl.Float64}))
    assert seen["image_threat_risk"].to_list() == ([] if risk is None else [risk])
