from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets import aliases as module
from platform_assets.aliases import PAGES, SCHEMA, Aliases
from resources.lakehouse.changes import rows_of_new_files
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse

MON = datetime(2026, 11, 9, tzinfo=UTC)
SEEN, CANONICAL, ELSE = "https://e.org/seen", "https://e.org/canonical", "https://e.org/else"


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path))


def fetch(lake, *pages, day=MON):
    """Put fetches of (tenant, address, document, hours) in the place of those of a day."""
    rows = [(tenant, address, document, day + timedelta(hours=hours)) for tenant, address, document, hours in pages]
    made = pl.DataFrame(rows, schema=SCHEMA, orient="row").with_columns(pl.lit(day.date()).alias(DAY))
    lake.replace_days(PAGES, [str(day.date())], made)


def named(aliases, *pairs):
    """Return the documents that addresses name to organisations."""
    rows = pl.DataFrame(pairs, schema=["tenant_id", "address"], orient="row")
    found = aliases.resolved(rows)
    assert found.select("tenant_id", "address").rows() == list(pairs), "each comes out, in its place"
    return found["document_id"].to_list()


def test_without_pages_each_address_names_itself(lake):
    assert named(Aliases(lake), ("a", SEEN), ("a", None)) == [SEEN, None]
    assert Aliases(lake).resolved(pl.DataFrame(schema={"tenant_id": pl.String, "address": pl.String})).is_empty()


def test_an_address_names_the_document_of_the_newest_own_fetch_else_of_anyones_else_itself(lake):
    fetch(
        lake,
        ("a", SEEN, ELSE, 1),
        ("a", SEEN, CANONICAL, 2),
        ("b", SEEN, ELSE, 3),
        ("b", CANONICAL, CANONICAL, 4),
    )
    asked = [("a", SEEN), ("b", SEEN), ("c", SEEN), ("a", CANONICAL), ("a", ELSE), ("a", None), ("a", SEEN)]
    expected = [CANONICAL, ELSE, ELSE, CANONICAL, ELSE, None, CANONICAL]
    assert named(Aliases(lake), *asked) == expected


def test_an_address_that_has_become_a_document_of_its_own_names_itself(lake):
    fetch(lake, ("a", SEEN, CANONICAL, 1), ("a", SEEN, SEEN, 2))
    assert named(Aliases(lake), ("a", SEEN), ("b", SEEN)) == [SEEN, SEEN]


def test_what_is_nobodys_in_particular_is_of_the_default_organisation(lake):
    fetch(lake, (None, SEEN, CANONICAL, 1), ("a", SEEN, ELSE, 0))
    assert named(Aliases(lake), ("default", SEEN), ("a", SEEN), ("b", SEEN)) == [CANONICAL, ELSE, CANONICAL]


def test_fetches_that_come_later_count_and_those_that_are_made_again_no_longer_do(lake):
    aliases = Aliases(lake)
    fetch(lake, ("a", ELSE, ELSE, 1))
    assert named(aliases, ("a", SEEN)) == [SEEN]
    fetch(lake, ("a", SEEN, CANONICAL, 1), day=MON + timedelta(days=1))
    assert named(aliases, ("a", SEEN)) == [CANONICAL]
    fetch(lake, ("a", SEEN, ELSE, 1), day=MON + timedelta(days=2))
    assert named(aliases, ("a", SEEN)) == [ELSE]
    fetch(lake, ("a", ELSE, ELSE, 1), day=MON + timedelta(days=2))
    assert named(aliases, ("a", SEEN)) == [CANONICAL]


def test_an_address_whose_alias_was_learnt_keeps_what_was_known_of_it_before(lake):
    aliases = Aliases(lake)
    fetch(lake, ("a", SEEN, SEEN, 9))
    assert named(aliases, ("a", SEEN)) == [SEEN]
    # An older fetch comes later: the newest still is that of the address itself.
    fetch(lake, ("a", SEEN, CANONICAL, 1), day=MON - timedelta(days=1))
    assert named(aliases, ("a", SEEN)) == named(Aliases(lake), ("a", SEEN)) == [SEEN]


def test_only_files_that_are_new_are_read(lake, monkeypatch):
    aliases, read = Aliases(lake), []
    fetch(lake, ("a", SEEN, CANONICAL, 1))
    named(aliases, ("a", SEEN))

    def counted(*arguments):
        rows, files = rows_of_new_files(*arguments)
        read.append(rows.height)
        return rows, files

    monkeypatch.setattr(module, "rows_of_new_files", counted)
    named(aliases, ("a", SEEN))
    assert read == [], "nothing has been written since"
    fetch(lake, ("a", ELSE, CANONICAL, 1), day=MON + timedelta(days=1))
    assert named(aliases, ("a", ELSE)) == [CANONICAL]
    assert read == [1]


FETCHES = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.sampled_from([SEEN, ELSE]),
    st.sampled_from([SEEN, CANONICAL]),
    st.integers(0, 5),
)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 2), st.lists(FETCHES, max_size=4, unique_by=lambda one: one[3])), max_size=4))
def test_what_was_read_as_it_came_is_what_is_read_at_once(tmp_path_factory, steps):
    lake = Lakehouse(uri=str(tmp_path_factory.mktemp("lake")))
    followed, asked = Aliases(lake), [(tenant, address) for tenant in ("a", "b", "c") for address in (SEEN, ELSE)]
    for day, pages in steps:
        fetch(lake, *pages, day=MON + timedelta(days=day))
        assert named(followed, *asked) == named(Aliases(lake), *asked)
