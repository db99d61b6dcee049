from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from governance import catalog
from governance.catalog import Table
from governance.quality import validate
from signals.documents.text import content_hash

TABLES = sorted(name for name, table in catalog.tables().items() if table.rules)
NOON = datetime(2026, 11, 9, 12, tzinfo=UTC)
FACTS = {"name": "silver/things", "owner": "t", "grain": "one thing", "columns": {}}
RULES = Table(
    **FACTS,
    key=("id", "part"),
    rules={
        "name_given": {"expect": "column_values_to_not_be_null", "column": "name"},
        "name_long_enough": {"expect": "column_value_lengths_to_be_between", "column": "name", "min_value": 2},
        "name_short_enough": {"expect": "column_value_lengths_to_be_between", "column": "name", "max_value": 5},
        "size_believable": {"expect": "column_values_to_be_between", "column": "size", "min_value": 0, "max_value": 9},
    },
    tolerated=0.05,
)
SCHEMA = {"id": pl.String, "part": pl.Int64, "name": pl.String, "size": pl.Float64}


def things(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def broken(found) -> dict[tuple, set[str]]:
    return {tuple(row[:2]): set(row[-1].split(", ")) for row in found.rejected.select("id", "part", "rule").rows()}


def test_rows_are_parted_by_the_rule_they_break_and_keep_their_order_and_columns():
    rows = things(("c", 1, "good", 1), ("a", 1, None, 1), ("b", 1, "good", -1), ("a", 2, "fine", 9))
    found = validate(rows, RULES)
    assert found.valid.equals(rows[[0, 3]])
    assert broken(found) == {("a", 1): {"name_given"}, ("b", 1): {"size_believable"}}
    assert found.rejected.columns == [*rows.columns, "rule"]
    assert found.rejected.drop("rule").equals(rows[[1, 2]])


def test_a_row_that_breaks_several_rules_is_listed_once_with_all_of_them():
    found = validate(things(("a", 1, "x", 10), ("b", 1, None, float("inf"))), RULES)
    assert found.valid.is_empty()
    assert broken(found) == {
        ("a", 1): {"name_long_enough", "size_believable"},
        ("b", 1): {"name_given", "size_believable"},
    }


def test_two_rules_that_expect_alike_of_one_column_both_hold():
    found = validate(things(("a", 1, "x", 1), ("b", 1, "too long", 1), ("c", 1, "fine", 1)), RULES)
    assert broken(found) == {("a", 1): {"name_long_enough"}, ("b", 1): {"name_short_enough"}}


def test_a_value_that_is_missing_breaks_only_the_rule_that_it_be_given():
    found = validate(things(("a", 1, "fine", None), ("b", 1, None, None)), RULES)
    assert found.valid["id"].to_list() == ["a"]
    assert broken(found) == {("b", 1): {"name_given"}}


def test_of_valid_rows_with_one_key_the_first_is_kept_and_the_others_break_duplicate_key():
    found = validate(things(("a", 1, "one", 1), ("a", 2, "two", 1), ("a", 1, "three", 1), ("a", 1, None, 1)), RULES)
    assert found.valid["name"].to_list() == ["one", "two"]
    assert found.rejected.select("name", "rule").rows() == [(None, "name_given"), ("three", "duplicate_key")]


def test_a_broken_row_keeps_no_valid_one_of_its_key_away():
    found = validate(things(("a", 1, None, 1), ("a", 1, "fine", 1)), RULES)
    assert found.valid["name"].to_list() == ["fine"]
    assert found.rejected["rule"].to_list() == ["name_given"]


@pytest.mark.parametrize(
    ("prefer", "kept"),
    [
        (("size", "name"), "two"),
        (("-size", "name"), "four"),
        (("absent", "-name"), "two"),
        (("absent",), "none"),
        ((), "none"),
    ],
)
def test_of_rows_with_one_key_the_preferred_is_kept_and_what_is_missing_comes_last(prefer, kept):
    rows = things(("a", 1, "none", None), ("a", 1, "two", 1), ("a", 1, "four", 2), ("a", 1, "six", 2))
    for order in ((0, 1, 2, 3), (0, 3, 2, 1)):
        found = validate(rows[list(order)], RULES.model_copy(update={"prefer": prefer}))
        assert found.valid["name"].to_list() == [kept]
        assert found.rejected["rule"].to_list() == ["duplicate_key"] * 3


def test_rows_without_a_key_have_one_key_and_are_not_lost():
    found = validate(things((None, None, "one", 1), (None, None, "two", 1)), RULES)
    assert found.valid["name"].to_list() == ["one"]
    assert found.rejected["rule"].to_list() == ["duplicate_key"]


def test_an_empty_frame_has_nothing_to_keep_and_nothing_broken():
    found = validate(things(), RULES)
    assert (found.valid.schema, found.valid.height) == (pl.Schema(SCHEMA), 0)
    assert (found.rejected.schema, found.rejected.height) == (pl.Schema(SCHEMA | {"rule": pl.String}), 0)
    assert found.page is None


def test_a_suite_of_a_key_alone_finds_repeated_rows_and_makes_no_page():
    found = validate(things(("a", 1, "one", 1), ("a", 1, "two", 1)), Table(**FACTS, key=("id",), rules={}))
    assert (found.valid["name"].to_list(), found.rejected["name"].to_list()) == (["one"], ["two"])
    assert found.page is None


def test_the_page_shows_the_validation_whether_it_passed_or_not():
    for rows in (things(("a", 1, "good", 1)), things(("a", 1, None, 99))):
        page = validate(rows, RULES).page
        assert page is not None
        assert page.startswith("<!DOCTYPE html>")
        assert "size" in page


def test_a_rule_that_names_no_rows_is_refused_rather_than_passed_over():
    average = {"expect": "column_mean_to_be_between", "column": "size", "min_value": 100}
    with pytest.raises(RuntimeError, match="rule average of silver/things"):
        validate(things(("a", 1, "good", 1)), Table(**FACTS, key=("id",), rules={"average": average}))


@pytest.mark.parametrize("column", ["name", "size", "id"])
def test_a_column_that_a_rule_or_the_key_needs_must_be_there(column):
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match=column):
        validate(things(("a", 1, "good", 1)).drop(column), RULES)


def test_a_rule_that_cannot_be_checked_is_an_error():
    rules = {"x": {"expect": "column_values_to_match_regex", "column": "name", "regex": "("}}
    with pytest.raises(Exception, match=r"rule x of silver/things|regex|pattern"):
        validate(things(("a", 1, "good", 1)), Table(**FACTS, key=("id",), rules=rules))


NAMES = st.sampled_from([None, "", "x", "fine", "too long"])
SIZES = st.sampled_from([None, 0.0, 9.0, -1.0, float("inf"), -float("inf")])
THINGS = st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.integers(0, 3), NAMES, SIZES), max_size=12)


@settings(deadline=None, max_examples=15)
@given(THINGS)
@example([])
@pytest.mark.slow
def test_every_row_is_kept_or_broken_once_and_a_second_sifting_keeps_the_same(rows):
    staged = things(*rows)
    found = validate(staged, RULES)
    parted = pl.concat([found.valid, found.rejected.drop("rule")])
    assert sorted(parted.rows(), key=str) == sorted(staged.rows(), key=str)
    assert not found.valid.select("id", "part").is_duplicated().any()
    assert found.valid["name"].is_in(["fine"]).all()
    assert (found.valid["size"].is_null() | found.valid["size"].is_between(0, 9)).all()
    assert found.rejected["rule"].is_not_null().all()
    again = validate(found.valid, RULES)
    assert again.valid.equals(found.valid)
    assert again.rejected.is_empty()


# For each shipped suite a row that keeps its rules, and for each rule a change to that row that breaks it alone.
SHIPPED = {
    "silver/ad_events": (
        {"event_id": "e", "impression_id": "i", "campaign_id": "c", "cost_usd": 0.1, "revenue_usd": 2.0},
        {
            "impression_given": {"impression_id": None},
            "campaign_given": {"campaign_id": None},
            "cost_believable": {"cost_usd": -0.1},
            "revenue_believable": {"revenue_usd": 1e7},
        },
    ),
    "silver/images": (
        {"document_id": "d", "page_url": "p", "fetched_at": NOON, "width": 2, "height": 2},
        {"large_enough": {"width": 1}, "tall_enough": {"height": 1}},
    ),
    "silver/inventory": (
        {"snapshot_id": "s", "floor_cpm_usd": 0.0, "avails": 5, "filled": 5},
        {
            "floor_believable": {"floor_cpm_usd": -0.01},
            "avails_not_negative": {"avails": -1, "filled": -1},
            "fills_within_avails": {"filled": 6},
        },
    ),
    "silver/labels": (
        {"label_id": "l", "task": "irony", "label": "irony", "split": "val"},
        {
            "task_given": {"task": None},
            "label_given": {"label": ""},
            "label_is_not_null": {"label": None},
            "split_known": {"split": "test"},
        },
    ),
    "silver/message_features": (
        {"message_id": "m", "emoji_sentiment": 1.0, "lexical_diversity": 0.0, "response_delay_s": 0.0},
        {
            "emoji_sentiment_bounded": {"emoji_sentiment": -1.1},
            "lexical_diversity_bounded": {"lexical_diversity": 1.1},
            "delay_not_negative": {"response_delay_s": -1.0},
        },
    ),
    "silver/messages": (
        {"message_id": "m", "text": "x", "author_id": "a"},
        {
            "text_given": {"text": ""},
            "text_short_enough": {"text": "x" * 1_000_001},
            "author_given": {"author_id": None},
        },
    ),
    "silver/pages": (
        {"url": "https://a.example/1", "fetched_at": NOON, "text": "x" * 20, "content_hash": content_hash("x" * 20)},
        {
            "url_given": {"url": None},
            "url_is_an_address": {"url": "javascript:alert(1)"},
            "text_long_enough": {"text": "x" * 19},
            "hash_is_sha256": {"content_hash": "none"},
        },
    ),
    "silver/rtb_auctions": (
        {"auction_id": "a", "floor_cpm_usd": 0.0, "clearing_price_cpm_usd": 10_000.0},
        {
            "floor_believable": {"floor_cpm_usd": -1.0},
            "clearing_price_believable": {"clearing_price_cpm_usd": 10_001.0},
        },
    ),
    "silver/user_sync": (
        {"sync_id": "s", "user_id": "u", "partner": "p"},
        {"user_given": {"user_id": None}, "partner_given": {"partner": None}},
    ),
}


def test_every_shipped_suite_is_tried_here_rule_by_rule():
    assert {*SHIPPED} == {*TABLES}
    for table, (_, changes) in SHIPPED.items():
        assert {*changes} == {*catalog.table(table).rules}, table


@pytest.mark.parametrize("table", TABLES)
def test_each_rule_of_a_shipped_suite_breaks_the_row_that_it_is_for_and_no_other(table):
    rules = catalog.table(table)
    good, changes = SHIPPED[table]
    rows = [good | {"tenant_id": f"t{n}"} | change for n, change in enumerate(({}, *changes.values()))]
    found = validate(pl.DataFrame(rows, schema_overrides={"url": pl.String}), rules)
    assert found.valid.rows(named=True) == rows[:1]
    assert found.rejected["rule"].to_list() == list(changes)
    assert found.rejected.drop("rule").rows(named=True) == rows[1:]
    assert 0 <= rules.tolerated < 1


@pytest.mark.parametrize("table", TABLES)
def test_what_one_organisation_sends_is_no_repetition_of_what_another_does(table):
    good, _ = SHIPPED[table]
    rows = pl.DataFrame([good | {"tenant_id": tenant} for tenant in ("a", "b", "a")])
    found = validate(rows, catalog.table(table))
    assert found.valid["tenant_id"].to_list() == ["a", "b"]
    assert found.rejected["rule"].to_list() == ["duplicate_key"]


def test_a_table_that_the_catalog_does_not_know_is_an_error():
    with pytest.raises(KeyError, match="silver/nothing"):
        catalog.table("silver/nothing")
