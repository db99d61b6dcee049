import polars as pl
import pytest

from resources.lakehouse import reading
from resources.lakehouse.reading import TableMissingError
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse

ROWS = pl.DataFrame({"id": ["a"]})


def test_a_snapshot_opens_each_table_once_and_sees_it_as_it_was_then(tmp_path, monkeypatch):
    lake, opened, table = Lakehouse(uri=str(tmp_path)), [], reading.DeltaTable
    lake.append_once("a/b", ROWS, {}, {"kafka:0": 7})
    before, seen = lake.version("a/b"), snapshot(lake)

    def counted(location, **options):
        opened.append(location)
        return table(location, **options)

    monkeypatch.setattr(reading, "DeltaTable", counted)
    assert (seen.exists("a/b"), seen.exists("a/c")) == (True, False)
    assert (seen.version("a/b"), seen.checkpoints("a/b")["kafka:0"]) == (before, 7)
    monkeypatch.undo()
    lake.append_once("a/b", ROWS, {"kafka:0": 7}, {"kafka:0": 8})
    lake.append_once("a/c", ROWS.clear(), {}, {})
    assert seen.scan("a/b", version=before).collect().height == 1
    assert (seen.version("a/b"), seen.count("a/b"), seen.checkpoint("a/b", "kafka:0")) == (before, 1, 7)
    with pytest.raises(TableMissingError):
        seen.read("a/c")
    assert sorted(opened) == [lake.location("a/b"), lake.location("a/c")]
    assert snapshot(lake).checkpoint("a/b", "kafka:0") == 8
