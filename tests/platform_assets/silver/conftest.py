from datetime import UTC, datetime

import pytest

from platform_assets.parsing import parse_records
from resources.landing.records import Record


@pytest.fixture(scope="session")
def bronze():
    """Return a function that makes bronze rows of a table from what its records say."""

    def rows(expected, *records, now=datetime(2026, 11, 10, 12, tzinfo=UTC)):
        landed = [Record(position, fields) for position, fields in enumerate(records, 1)]
        found, broken = parse_records(landed, expected, f"{expected.folder}/a.jsonl", now)
        assert broken.is_empty(), broken["rule"].to_list()
        return found

    return rows
