from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from platform_assets.bronze.review_labels import SCHEMA
from platform_assets.silver.labels import labelled_documents, labels_in, resolved
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from signals.documents.text import content_hash, normalise
from signals.splits import HELD_OUT_SHARE

SAID = {"label_id": "l1", "task": "sentiment", "label": "positive"}
KNOWN = pl.DataFrame(
    {
        "name": ["https://example.org/a", "m1"],
        "tenant_id": ["default", "acme"],
        "document_id": ["https://example.org/a", "m1"],
        "content_hash": ["a" * 64, "0" * 64],
        "text": ["Title\nText of the page", "Text of the message"],
    }
)


def one(bronze, **fields):
    return resolved(bronze(SCHEMA, SAID | fields), KNOWN).row(0, named=True)


def test_a_label_that_carries_its_text_is_about_its_normal_form(bronze):
    row = one(bronze, text="So  good, @ann! https://example.org")
    assert row["text"] == normalise(row["text"]) == "So good, @user! http"
    assert row["content_hash"] == content_hash(row["text"])
    assert (row["rule"], row["tenant_id"], row["document_id"]) == (None, "default", None)
    assert row["labelled_at"] == row["received_at"]


def test_a_label_that_names_a_document_is_about_its_text(bronze):
    row = one(bronze, document_id="m1", labelled_at="2026-11-09T08:00:00Z", tenant_id="acme")
    assert (row["text"], row["content_hash"], row["rule"]) == ("Text of the message", "0" * 64, None)
    assert (row["labelled_at"], row["tenant_id"]) == (datetime(2026, 11, 9, 8, tzinfo=UTC), "acme")


def test_a_label_that_does_not_say_whose_it_is_goes_with_the_newest_of_the_documents_that_it_names(bronze):
    later = KNOWN.with_columns(tenant_id=pl.lit("other"), text=pl.lit("Later"))
    said = bronze(SCHEMA, SAID | {"document_id": "m1"}, SAID | {"document_id": "m1", "tenant_id": "acme"})
    found = resolved(said, pl.concat([KNOWN, later])).select("tenant_id", "text")
    assert found.rows()[::-1] == [("other", "Later"), ("acme", "Text of the message")]


@pytest.mark.parametrize("url", ["https://Example.org/a", "https://example.org:443/a#top", " https://example.org/a"])
def test_a_page_is_found_under_every_address_that_is_its_own(bronze, url):
    row = one(bronze, document_id=url)
    assert (row["document_id"], row["content_hash"], row["rule"]) == ("https://example.org/a", "a" * 64, None)


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({"text": "La reunión de mañana por la tarde se ha aplazado hasta el lunes."}, "es"),
        ({"text": "ok", "language": "de"}, "de"),
        ({"text": "ok"}, None),
        ({"document_id": "m1", "tenant_id": "acme"}, "en"),
    ],
)
def test_the_language_is_that_of_the_text_or_the_one_that_is_declared(bronze, fields, language):
    assert one(bronze, **fields)["language"] == language


def test_labels_in_some_languages_are_those_whose_text_is_of_no_other(tmp_path):
    lakehouse = Lakehouse(uri=str(tmp_path))
    rows = pl.DataFrame({"language": ["en", "fr", None], DAY: [datetime(2026, 11, 9).date()] * 3})  # noqa: DTZ001
    lakehouse.replace_days("silver/labels", ["2026-11-09"], rows)
    assert set(labels_in(lakehouse, ("en",))["language"]) == {"en", None}
    assert labels_in(lakehouse, None).height == 3


def test_the_text_that_a_label_carries_comes_before_the_document_that_it_names(bronze):
    row = one(bronze, document_id="m1", tenant_id="acme", text="My own")
    assert (row["text"], row["content_hash"]) == ("My own", content_hash("My own"))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"text": "fine"}, None),
        ({"text": "fine", "label": "splendid"}, "unknown_label"),
        ({"text": "fine", "task": "not_declared", "label": "anything"}, None),
        ({}, "names_no_document"),
        ({"document_id": "m2"}, "document_unknown"),
        ({"document_id": "https://example.org/b"}, "document_unknown"),
        ({"document_id": "m2", "label": "splendid"}, "unknown_label"),
        ({"document_id": "m1", "tenant_id": "acme"}, None),
        ({"document_id": "m1", "tenant_id": "other"}, "document_unknown"),
        ({"document_id": "m1"}, None),
        ({"document_id": "https://example.org/a", "tenant_id": "other"}, None),
    ],
)
def test_each_rule(bronze, fields, rule):
    assert one(bronze, **fields)["rule"] == rule


def test_a_label_about_an_empty_text_cannot_be_used(bronze):
    assert one(bronze, text=" ")["rule"] is not None


@pytest.mark.parametrize("url", ["http://[bad/", "http://example.org:port/"])
def test_a_hostile_address_names_an_unknown_document(bronze, url):
    assert one(bronze, document_id=url)["rule"] == "document_unknown"


def test_the_split_is_the_given_one_or_that_of_the_hash(bronze):
    assert one(bronze, document_id="m1", tenant_id="acme")["split"] == "val"
    assert one(bronze, document_id="https://example.org/a")["split"] == "train"
    assert one(bronze, document_id="m1", tenant_id="acme", split="train")["split"] == "train"
    assert one(bronze, document_id="https://example.org/a", split="val")["split"] == "val"


def test_a_fifth_is_held_out_and_equal_texts_are_on_one_side(bronze):
    rows = [SAID | {"label_id": str(i), "text": f"text {i // 2}"} for i in range(2_000)]
    found = resolved(bronze(SCHEMA, *rows), KNOWN)
    assert found.group_by("content_hash").agg(pl.col("split").n_unique())["split"].max() == 1
    assert abs((found["split"] == "val").mean() - HELD_OUT_SHARE) < 0.05
    assert set(found["split"]) == {"train", "val"}


def test_every_label_comes_out_once_in_its_place(bronze):
    said = bronze(
        SCHEMA,
        SAID | {"document_id": "m1", "tenant_id": "acme"},
        SAID,
        SAID | {"document_id": "https://example.org/a"},
    )
    found = resolved(said, KNOWN).sort("position")
    assert found["text"].to_list() == ["Text of the message", None, "Title\nText of the page"]


def test_a_label_under_another_address_of_a_page_is_about_its_document(bronze):
    alias = KNOWN.head(1).with_columns(name=pl.lit("https://example.org/seen"))
    found = resolved(bronze(SCHEMA, SAID | {"document_id": "https://Example.org/seen"}), pl.concat([KNOWN, alias]))
    assert found.select("document_id", "content_hash").row(0) == ("https://example.org/a", "a" * 64)


def page(document_id, address, text, at, **more):
    told = {"tenant_id": "acme", "document_id": document_id, "normalized_url": address, "title": None, "text": text}
    return told | {"content_hash": content_hash(text), "fetched_at": at, DAY: at.date()} | more


def test_documents_are_found_by_each_name_and_their_own_comes_first(bronze, tmp_path):
    lake, monday = Lakehouse(uri=str(tmp_path)), datetime(2026, 11, 9, tzinfo=UTC)
    pages = [
        page("https://e.org/a", "https://e.org/seen", "Monday", monday),
        page("https://e.org/a", "https://e.org/a", "Tuesday", monday + timedelta(days=1)),
        page("https://e.org/b", "https://e.org/a", "Later, and of another document", monday + timedelta(days=2)),
        page("https://e.org/a", "https://e.org/a", "Of others", monday + timedelta(days=3), tenant_id="other"),
        page("https://e.org/c", "https://e.org/c", "Not named", monday),
    ]
    lake.insert_missing("silver/pages", pl.DataFrame(pages, schema_overrides={"title": pl.String}), ["text"])
    told = {"tenant_id": "acme", "document_id": "m1", "text": "Hi", "content_hash": "h", DAY: monday.date()}
    lake.insert_missing("silver/messages", pl.DataFrame([told | {"sent_at": monday}]), ["document_id"])
    lake.insert_missing("silver/images", pl.DataFrame([told | {"fetched_at": monday}]).clear(), ["document_id"])
    names = ("https://E.org/a", "https://e.org/seen", "m1", "https://e.org/none")
    found = labelled_documents(lake, bronze(SCHEMA, *(SAID | {"document_id": name} for name in names)))
    assert sorted(found.select("name", "tenant_id", "document_id", "text").rows()) == [
        ("https://e.org/a", "acme", "https://e.org/a", "Tuesday"),
        ("https://e.org/a", "other", "https://e.org/a", "Of others"),
        ("https://e.org/seen", "acme", "https://e.org/a", "Monday"),
        ("m1", "acme", "m1", "Hi"),
    ]
    assert found.filter(name="https://e.org/a")["tenant_id"].to_list() == ["acme", "other"]


def test_nothing_in_nothing_out(bronze):
    found = resolved(bronze(SCHEMA), KNOWN)
    assert found.is_empty()
    assert {"text", "content_hash", "split", "rule"} <= set(found.columns)
