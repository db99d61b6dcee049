from dataclasses import replace

import pytest
from deltalake.exceptions import CommitFailedError

from platform_assets import ingestion
from platform_assets.ingestion import ingest
from platform_assets.publishing import QUARANTINE
from resources.lakehouse.tables import Lakehouse
from resources.settings import configure
from resources.settings import settings as current
from resources.sources.incremental import SourceError
from tests.platform_assets.test_parsing import GOOD, NOW, SCHEMA
from tests.resources.sources.test_http import serving
from tests.support.kills import KilledError, clean_up_log, dying_at_commits


class Feed:
    """An API's messages, the lakehouse that they are pulled into, and what that holds of them."""

    def __init__(self, folder, api):
        self.api, self.lake, self.expected = api, Lakehouse(uri=str(folder / "lake")), replace(SCHEMA, pulled=True)
        configure(pull_url=api.url, landing=folder, pull_requests_per_second=1_000)

    def add(self, *ids):
        self.api.items += [GOOD | {"id": one} for one in ids]

    def ingest(self, lake=None):
        count = ingest(lake or self.lake, self.expected, [], NOW, ingestion.sources_of(self.expected))
        return count["rows_in"], count["rows_out"], count["rows_quarantined"]

    def stored(self):
        return sorted(self.lake.read(SCHEMA.table)["id"].to_list())

    def broken(self):
        return sorted(self.lake.read(QUARANTINE)["rule"].to_list())

    def has_unread(self):
        return ingestion.has_unread(self.lake, self.expected)


@pytest.fixture
def feed(tmp_path):
    kept = current()
    with serving() as api:
        yield Feed(tmp_path, api)
    configure(**kept.model_dump())


def test_an_api_is_ingested_once_with_how_far(feed):
    assert feed.has_unread()  # a table that does not exist is made
    feed.ingest()
    assert not feed.has_unread()
    feed.add("a", "b", "c", "d")
    assert feed.has_unread()
    assert feed.ingest() == (4, 4, 0)
    version = feed.lake.version(SCHEMA.table)
    assert not feed.has_unread()
    assert feed.ingest() == (0, 0, 0)
    assert feed.lake.version(SCHEMA.table) == version
    feed.add("e", "f", "g")
    assert feed.has_unread()
    assert feed.ingest() == (3, 3, 0)
    assert feed.stored() == list("abcdefg")
    (source,) = ingestion.sources_of(feed.expected)
    assert feed.lake.read(SCHEMA.table)["source"].unique().to_list() == [source.name]


def test_an_api_that_grew_by_just_a_page_is_looked_at_beyond_it(feed):
    feed.add("a", "b", "c")
    feed.ingest()
    feed.add("d")
    assert feed.has_unread()
    feed.ingest()
    assert feed.stored() == list("abcd")


def test_broken_items_are_quarantined_once(feed):
    feed.add("a", "")
    feed.api.items += ["text", {"id": "no time"}, {"id": "x", "at": float("nan")}]
    assert feed.ingest() == (5, 2, 3)
    assert feed.ingest() == (0, 0, 0)
    assert feed.stored() == ["a", "no time"]
    assert feed.broken() == ["bad_timestamp:at", "not_an_object", "null:id"]


def test_a_kill_at_any_commit_of_an_api_loses_and_doubles_nothing(feed):
    feed.add(*"abcdefgh", "", "")

    mortal = dying_at_commits(feed.lake.uri)
    for _ in range(4):
        with pytest.raises(KilledError):
            feed.ingest(mortal)
    # A page that holds nothing but broken items moves the cursor too.
    feed.ingest()
    assert feed.ingest() == (0, 0, 0)
    assert feed.stored() == list("abcdefgh")
    assert feed.broken() == ["null:id"]


def test_of_two_that_read_an_api_at_once_one_appends(feed):
    feed.add(*"abcde")

    class Overtaken(Lakehouse):
        def append_once(self, table, rows, before, after):
            if rows.height:
                feed.ingest()
            super().append_once(table, rows, before, after)

    with pytest.raises(CommitFailedError, match="another writer has read the same sources"):
        feed.ingest(Overtaken(uri=feed.lake.uri))
    assert feed.stored() == list("abcde")


def test_a_page_that_is_none_stops_at_what_was_read_and_the_next_goes_on(feed):
    feed.add(*"abcdefg")
    page = feed.api.page
    feed.api.page = lambda query: b"garbage" if query.get("cursor") == ["at-3"] else page(query)
    with pytest.raises(SourceError, match="gave no page"):
        feed.ingest()
    assert feed.stored() == list("abc")
    assert not feed.has_unread()
    feed.api.page = page
    assert feed.has_unread()
    feed.ingest()
    assert feed.stored() == list("abcdefg")


def test_the_cursor_survives_checkpoint_compaction_and_clean_up_of_the_log(feed):
    feed.add(*"abcdefg")
    feed.ingest()
    clean_up_log(feed.lake, SCHEMA.table)
    feed.api.asked.clear()
    assert feed.ingest() == (0, 0, 0)
    assert [query["cursor"] for query, *_ in feed.api.asked] == [["at-6"]]
