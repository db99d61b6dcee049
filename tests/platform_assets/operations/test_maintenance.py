"""The nightly maintenance of all tables."""

import dagster as dg
import polars as pl
import pytest

from platform_assets.operations.maintenance import TABLE, maintenance
from resources.lakehouse.tables import Lakehouse
from tests.support.delta import MON, PAGES, frame, stored


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path))


def test_each_table_that_exists_is_a_row_that_says_what_was_saved(lake):
    for number in range(3):
        lake.append_once(PAGES, frame((f"{number}", number, MON)), {}, {})
    lake.append_once("bronze/user_sync", frame(("a", 1, MON)), {}, {})
    lake.append_once("silver/images", frame(), {}, {})
    rows = stored(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        made = dg.materialize([maintenance], resources={"lakehouse": lake}, instance=instance)
    said = made.asset_materializations_for_node("operations__maintenance")[0].metadata
    assert (said["files_compacted"].value, said["dagster/row_count"].value) == (2, 3)
    of_tables = lake.read(TABLE).sort("table").select("table", "files_compacted", "files", pl.col("bytes") > 0)
    assert of_tables.rows() == [
        ("bronze/user_sync", 0, 1, True),
        ("silver/images", 0, 0, False),
        (PAGES, 2, 1, True),
    ]
    assert stored(lake) == rows
