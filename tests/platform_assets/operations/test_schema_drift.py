from datetime import UTC, date, datetime

import dagster as dg
import pytest

from platform_assets.bronze import SCHEMAS, social_messages
from platform_assets.ingestion import append, prepare
from platform_assets.operations.schema_drift import TABLE, schema_drift
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.landing.increments import Increment
from resources.landing.records import Record

NOW = datetime(2026, 11, 11, 12, tzinfo=UTC)
ONE, TWO = "2026-11-10", "2026-11-11"


@pytest.fixture
def lake(tmp_path):
    made = Lakehouse(uri=str(tmp_path / "lake"))
    for expected in SCHEMAS:
        prepare(made, expected, NOW)
    return made


def test_each_undeclared_field_is_told_with_its_types_and_its_share_of_the_day(lake):
    given = [
        {"sent_at": f"{ONE}T08:00:00Z", "score": 1, "geo.lat": 54.3},
        {"sent_at": f"{ONE}T09:00:00Z", "score": "n/a", "client": {"id": 1}},
        {"sent_at": f"{ONE}T10:00:00Z"},
        {"sent_at": f"{ONE}T11:00:00Z", "score": 2, "tags": [], "seen": True, "nothing": None},
        {"sent_at": f"{TWO}T11:00:00Z", "score": 0.5},
    ]
    records = [Record(place, {"message_id": str(place), **fields}) for place, fields in enumerate(given, 1)]
    append(lake, social_messages.SCHEMA, [Increment("a", records, {"a": None}, {"a": 5})], NOW)
    with dg.instance_for_test() as instance:
        tags = {"dagster/asset_partition_range_start": ONE, "dagster/asset_partition_range_end": TWO}
        assert dg.materialize([schema_drift], instance=instance, resources={"lakehouse": lake}, tags=tags).success
    found = lake.read(TABLE).sort(DAY, "field", "type")
    assert set(found["table"]) == {"bronze/social_messages"}
    assert found.select(DAY, "field", "type", "rows", "share").rows() == [
        (date(2026, 11, 10), "client", "object", 1, 0.25),
        (date(2026, 11, 10), "geo.lat", "number", 1, 0.25),
        (date(2026, 11, 10), "nothing", "null", 1, 0.25),
        (date(2026, 11, 10), "score", "integer", 2, 0.5),
        (date(2026, 11, 10), "score", "string", 1, 0.25),
        (date(2026, 11, 10), "seen", "boolean", 1, 0.25),
        (date(2026, 11, 10), "tags", "array", 1, 0.25),
        (date(2026, 11, 11), "score", "number", 1, 1.0),
    ]
    assert set(found["first_seen"]) == {NOW}
