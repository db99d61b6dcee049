from contextlib import closing
from datetime import UTC, date, datetime
from functools import partial

import dagster as dg
import polars as pl
import pytest

from platform_assets.published.signal_store import TABLE, signal_store
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from resources.signal_store.stores import LocalStore
from signals.consumer_record import HOLDS
from tests.support.signals import held

SIGNALS, DAYS = "silver/page_signals", ("2026-11-10", "2026-11-11")
INPUTS = (SIGNALS,)


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path / "lake"))


def fetched(day, threat, document="https://a.example/1", hour=8):
    moment = datetime(2026, 11, int(day[-2:]), hour, tzinfo=UTC)
    row = {"tenant_id": "t", "document_id": document, "url": document, "fetched_at": moment, "threat": threat}
    row |= {"expires_at": moment + HOLDS, "keywords": ["bridge"], "risk": "none", "topics": [{"id": "1"}]}
    place = {"source": "file", "position": 1, "received_at": moment}
    return row | place | {"published_on": date(2026, 11, 1), DAY: date.fromisoformat(day)}


def batch(lake, folder, days, *rows):
    """Have batch make days of page signals, and the asset what is stale then; return the days that were stale."""
    lake.replace_days(SIGNALS, days, pl.DataFrame(rows))
    stale = stale_days(lake, TABLE, INPUTS, streamed=True)
    resources = {"lakehouse": lake, "open_signal_store": partial(LocalStore, folder)}
    tags = {"dagster/asset_partition_range_start": min(days), "dagster/asset_partition_range_end": max(days)}
    assert dg.materialize([signal_store], resources=resources, tags=tags).success
    assert stale_days(lake, TABLE, INPUTS, streamed=True) == []
    return stale


def stored(folder, document="https://a.example/1"):
    with closing(LocalStore(folder)) as store:
        return held(store, "t", document)


def test_the_newest_signals_of_a_page_are_looked_up_whichever_day_is_made_last(lake, tmp_path):
    first, second = DAYS
    folder = tmp_path / "signals"
    assert batch(lake, folder, [second], fetched(second, "arms")) == [second]
    assert batch(lake, folder, [first], fetched(first, "none"), fetched(first, "hate", "https://b.example/")) == [first]
    found = stored(folder)
    assert (found["threat"], found["keywords"], found["published_on"]) == ("arms", ["bridge"], "2026-11-01")
    assert not {"source", "position", "received_at", DAY} & set(found)
    assert stored(folder, "https://b.example/")["threat"] == "hate"
    assert lake.read(TABLE).sort(DAY).select(pl.col(DAY).cast(pl.String), "pages").rows() == [(first, 2), (second, 1)]


def test_a_day_that_is_decided_again_is_published_again_and_what_a_stream_adds_is_its_own_matter(lake, tmp_path):
    day, folder = DAYS[0], tmp_path / "signals"
    batch(lake, folder, [day], fetched(day, "none"))
    assert batch(lake, folder, [day], fetched(day, "arms")) == [day]
    assert stored(folder)["threat"] == "arms"
    streamed = Lakehouse(uri=lake.uri, streaming=True)
    streamed.insert_missing(SIGNALS, pl.DataFrame([fetched(day, "hate", "https://s.example/")]), ["document_id"])
    assert stale_days(lake, TABLE, INPUTS, streamed=True) == []
