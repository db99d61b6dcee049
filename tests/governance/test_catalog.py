"""What the catalog says of tables, beside what the code has them be."""

import dagster as dg
import pytest
from pydantic import ValidationError

from governance import catalog
from platform_assets.bronze import SCHEMAS
from platform_assets.definitions import defs
from platform_assets.parsing import ROW
from platform_assets.silver.quarantine import WRITERS
from serving.stream.pipelines import HOPS, PIPELINES

TABLES = catalog.tables()
BRONZE = {expected.table: {*expected.columns, "undeclared", *ROW} for expected in SCHEMAS}
LOOKUPS = [(table, lookup) for table in TABLES.values() for lookup in table.lookups]


@pytest.fixture(scope="module")
def assets():
    """Return what the graph materialises as a table: its metadata and its dependencies, by its name."""
    graph = defs().resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.materializable_asset_keys]
    return {node.key.to_user_string(): node for node in nodes if node.metadata.get("table")}


def test_every_table_that_is_materialised_is_in_the_catalog_and_no_other(assets):
    assert set(assets) == set(TABLES)
    assert {node.metadata["table"] for node in assets.values()} == set(TABLES)


def test_the_tables_of_a_layer_are_those_of_its_name():
    assert set(catalog.names("bronze")) == set(BRONZE)
    layers = {name.split("/")[0] for name in TABLES}
    assert sorted(name for layer in layers for name in catalog.names(layer)) == sorted(TABLES)


@pytest.mark.parametrize("table", [t for t in TABLES.values() if t.name in BRONZE], ids=lambda table: table.name)
def test_bronze_is_named_by_where_its_rows_come_from(table):
    assert set(table.key) <= BRONZE[table.name]
    assert table.key == ("source", "position")


@pytest.mark.parametrize("table", [t for t in TABLES.values() if t.deliveries], ids=lambda table: table.name)
def test_what_names_and_prefers_a_delivery_is_declared(table, assets):
    columns = BRONZE[table.deliveries]
    assert set(table.key) <= columns
    assert {name.removeprefix("-") for name in table.prefer} <= columns
    # Two rows are never equally preferred, or the order of reading would decide.
    assert table.prefer[-2:] == ("source", "position")
    assert table.deliveries in assets[table.name].metadata["inputs"]
    assert not table.within_day


def test_what_comes_from_outside_is_named_with_its_organisation():
    ours = {"silver/embeddings", "silver/quarantine", "silver/decisions"}
    for name in catalog.names("silver"):
        assert (catalog.TENANT in catalog.table(name).key) != (name in ours), name


@pytest.mark.parametrize(("table", "lookup"), LOOKUPS, ids=[f"{t.name} in {one.table}" for t, one in LOOKUPS])
def test_what_is_looked_up_is_declared(table, lookup, assets):
    assert {lookup.table, lookup.referred_by.table} <= set(TABLES)
    for of, names in (
        (lookup.table, (*lookup.key, *lookup.values, *([lookup.newest] if lookup.newest else []))),
        (lookup.referred_by.table, lookup.referred_by.columns),
    ):
        if of in BRONZE:
            assert set(names) <= BRONZE[of]
    node = assets[table.name]
    # A table does not depend on itself, though its own rows may be looked up.
    reads = {key.to_user_string() for key in node.parent_keys} | {table.name}
    assert {lookup.table, lookup.referred_by.table} <= reads
    # Rows that refer make the rows of their own day.
    assert lookup.referred_by.table in (*node.metadata["inputs"], table.name)


def test_the_stream_makes_of_a_topic_what_the_catalog_says_in_the_order_of_the_graph(assets):
    assert set(HOPS) == {name for name, table in TABLES.items() if table.streamed}
    assert {name for table in TABLES.values() for name in table.streamed_from} <= {p.bronze.table for p in PIPELINES}
    for pipeline in PIPELINES:
        made = [pipeline.bronze.table]
        for table in pipeline.tables:
            assert pipeline.bronze.table in TABLES[table].streamed_from
            parents = {key.to_user_string() for key in assets[table].parent_keys}
            assert parents & {*made}, table
            assert parents & {*pipeline.tables} <= {*made}, table
            made.append(table)


def test_events_are_joined_with_the_pages_of_their_own_micro_batch():
    topics = [pipeline.topic for pipeline in PIPELINES]
    assert topics.index("pages") < min(topics.index("ad-events"), topics.index("inventory"))


def test_a_page_counts_as_processed_when_it_is_published():
    pages = next(pipeline for pipeline in PIPELINES if pipeline.topic == "pages")
    assert pages.tables[-1] == "published/signal_store"
    assert pages.last_table == "silver/page_signals"


def test_tables_whose_rows_have_rules_say_so_in_the_graph(assets):
    for name, table in TABLES.items():
        if table.rules is not None:
            assert assets[name].check_keys >= {dg.AssetCheckKey(assets[name].key, "rules")}, name


def test_every_table_that_may_quarantine_is_before_the_quarantine():
    assert set(WRITERS) >= set(BRONZE)
    assert set(WRITERS) >= {name for name, table in TABLES.items() if table.rules is not None} | {"silver/decisions"}
    assert set(WRITERS) <= set(TABLES)


def test_every_table_is_somebodys_and_each_column_is_one_thing(assets):
    for table in TABLES.values():
        names = [name for columns in table.columns.values() for name in columns]
        assert len(set(names)) == len(names), table.name
        assert {*table.key} <= {*names}, table.name
        assert table.classes.get(catalog.TENANT, "tenant") == "tenant"
        assert assets[table.name].owners == [f"team:{table.owner}"]
        assert assets[table.name].description.endswith(f"Key: {', '.join(table.key)}.")


@pytest.mark.parametrize("table", sorted(BRONZE))
def test_bronze_has_the_columns_that_the_catalog_declares(table):
    assert {*catalog.table(table).classes} == BRONZE[table] - {"undeclared"}


def test_a_fact_that_nobody_knows_is_an_error_and_so_is_a_table():
    with pytest.raises(ValidationError, match="keys"):
        catalog.Table(name="silver/x", owner="t", grain="one", columns={}, keys=["a"], key=("a",))
    with pytest.raises(KeyError, match="silver/x"):
        catalog.table("silver/x")
