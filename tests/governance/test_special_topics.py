"""Topics that tell of health, belief and the like, and persons' ids, never stand in one row for consumers."""

import json

import polars as pl
import pytest

from governance import catalog
from governance.special_topics import columns_of_topics, rows_with_topics, special_topics, tables
from signals.taxonomies import nodes

TABLE = catalog.table("gold/psychosocial_daily")


def test_no_table_for_consumers_declares_topics_beside_a_person():
    assert [table.name for table in tables()] == ["gold/psychosocial_daily"]
    assert {table.name: columns_of_topics(table) for table in tables()} == {"gold/psychosocial_daily": []}
    assert columns_of_topics(catalog.table("gold/contextual_signals"))


def test_what_the_taxonomy_marks_is_special_with_all_below_it():
    names = {nodes()[topic]["name"] for topic in special_topics()}
    assert names >= {
        "Cancer",
        "Islam",
        "Mental Health",
        "Sensitive Topics",
        "Debated Sensitive Social Issues",
        "Divorce",
    }
    assert not names & {"Soccer", "Attractions", "Politics"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("topic", "314"),
        ("iab_category", "314"),
        ("iab_category_name", "Cancer"),
        ("note", "Medical Health > Diseases and Conditions > Cancer"),
        ("topics", [{"id": "314", "path": "x"}]),
        ("cat", ["1", "459"]),
        ("undeclared", json.dumps({"a": {"topics": ["CANCER "]}})),
    ],
)
def test_a_special_topic_beside_a_person_is_found_in_whatever_shape(column, value):
    rows = pl.DataFrame({"author_id": ["u-1", None], "tenant_id": "acme", column: [value, value]})
    assert rows_with_topics(TABLE, rows)["author_id"].to_list() == ["u-1"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("topic", "483"), ("note", "314"), ("note", "cancerous"), ("messages", 314), ("undeclared", "{broken")],
)
def test_what_is_no_special_topic_is_not(column, value):
    rows = pl.DataFrame({"author_id": ["314"], "tenant_id": ["Cancer"], column: [value]})
    assert rows_with_topics(TABLE, rows).is_empty()
