"""Rows that were removed leave the disk and the log, and no reader of the present version notices."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from resources.lakehouse.checkpoints import CHANGED
from resources.lakehouse.disk import purge
from resources.lakehouse.reading import VersionGoneError
from resources.lakehouse.staleness import fingerprints
from resources.lakehouse.tables import Lakehouse
from tests.support.bytes import files_with

TABLE, KEY = "silver/user_sync", ["tenant_id", "sync_id"]
DAYS = ["2026-11-09", "2026-11-10"]


def syncs(*rows: tuple[str | None, str, str]) -> pl.DataFrame:
    columns = ["sync_id", "user_id", "event_date"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_columns(pl.col("event_date").str.to_date())
    return frame.with_columns(tenant_id=pl.lit("acme"), source=pl.lit("f"), position=pl.int_range(pl.len()))


MINE = syncs(("1", "person-1", DAYS[0]), (None, "person-1", DAYS[0]))
OTHERS = syncs(("1", "person-2", DAYS[1]), ("3", "person-3", DAYS[0]))


@pytest.fixture
def lake(tmp_path) -> Lakehouse:
    lake = Lakehouse(uri=str(tmp_path))
    lake.append_once(TABLE, pl.concat([MINE, OTHERS]), {}, {"source": 7})
    return lake


def test_removed_rows_leave_no_bytes_after_a_purge_and_all_else_stays(lake, tmp_path: Path):
    # The key alone is that of a row of another day too.
    lake.remove(TABLE, MINE, KEY)
    assert sorted(lake.read(TABLE)["user_id"]) == ["person-2", "person-3"]
    assert files_with(tmp_path, ["person-1"])
    version, state = lake.version(TABLE), fingerprints(lake, [TABLE])
    assert purge(lake, TABLE)
    assert files_with(tmp_path, ["person-1"]) == []
    assert not purge(lake, TABLE)
    assert (lake.version(TABLE), fingerprints(lake, [TABLE])) == (version, state)
    assert sorted(lake.read(TABLE)["user_id"]) == ["person-2", "person-3"]
    assert lake.checkpoints(TABLE) == {
        "source": 7,
        CHANGED.name(DAYS[0]): version,
        CHANGED.name(DAYS[1]): 1,
    }
    assert lake.written(TABLE).date() == date.today()  # noqa: DTZ011
    with pytest.raises(VersionGoneError):
        lake.open_version(TABLE, version - 1)
    lake.append_once(TABLE, MINE, {"source": 7}, {"source": 8})
    assert lake.count(TABLE) == 4


def test_files_that_are_not_committed_yet_stay(lake, tmp_path: Path):
    pending = tmp_path / TABLE / f"event_date={DAYS[0]}" / "part-of-another-writer.parquet"
    OTHERS.write_parquet(pending)
    lake.remove(TABLE, MINE, KEY)
    purge(lake, TABLE)
    assert pending.exists()


def test_the_log_has_no_personal_values(lake, tmp_path: Path):
    assert files_with(tmp_path / TABLE / "_delta_log", ["person-"]) == []
    files = pl.DataFrame(DeltaTable(lake.location(TABLE)).get_add_actions(flatten=True))
    assert {name for name in files.columns if name.startswith("min.")} == {
        f"min.{name}" for name in ("tenant_id", "sync_id", "source", "position")
    }
