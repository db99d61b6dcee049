"""The log of access as a table, and the check that nobody has changed it."""

import dagster as dg
import pytest

from governance import catalog
from governance.access import Identity
from platform_assets.operations.access import SCHEMA, TABLE, access
from resources.access_log import AccessLog
from resources.lakehouse.tables import Lakehouse
from resources.settings import load_settings

ASKS = Identity("key 1a2b", "analyst", "acme")


@pytest.fixture
def log(tmp_path):
    given = {"access_log": str(tmp_path / "log"), "access_anchors": str(tmp_path / "anchors")}
    return AccessLog(load_settings(**given))


def made(tmp_path, log):
    """Materialise the table; return its lake, and whether the check passed."""
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    ran = dg.materialize([access], resources={"lakehouse": lake, "access_log": log})
    (checked,) = ran.get_asset_check_evaluations()
    return lake, checked.passed


def test_each_line_is_a_row_once(tmp_path, log):
    assert made(tmp_path, log)[0].count(TABLE) == 0
    for number in range(3):
        with log.recorded(ASKS, "sql", "SELECT 1", "SELECT ?") as answer:
            answer.tables, answer.rows = ["gold/a", "gold/b"], number
        lake, passed = made(tmp_path, log)
    assert passed
    assert made(tmp_path, log)[1]
    rows = lake.read(TABLE).sort("number")
    assert rows["number"].to_list() == [1, 2, 3]
    row = rows.to_dicts()[2]
    assert (row["who"], row["tables"], row["rows"], row["query"]) == ("key 1a2b", ["gold/a", "gold/b"], 2, "SELECT ?")
    assert lake.days(TABLE) == [str(row["at"].date())] == [str(row["event_date"])]
    assert {*rows.columns} == {*SCHEMA, "event_date"} == {*catalog.table(TABLE).classes}


def test_a_log_that_was_tampered_with_fails_the_check(tmp_path, log):
    for _ in range(2):
        with log.recorded(ASKS, "sql", "SELECT 1", "SELECT ?"):
            pass
    line = tmp_path / "log/000000000001.json"
    line.write_text(line.read_text().replace("analyst", "support"))
    assert not made(tmp_path, log)[1]
