from datetime import date
from pathlib import Path

import pytest
from pyarrow.dataset import field

from resources.lakehouse.files import arrow_dataset, write_file
from tests.support.delta import DAYS, MON, PAGES, THU, TUE, WED, frame


def test_reading_some_days_opens_the_files_of_these_days_only(lake, tmp_path):
    lake.replace_days(PAGES, DAYS, frame(("a", 1, MON), ("b", 1, TUE), ("c", 1, WED), ("d", 1, THU)))
    for path in (tmp_path / "lake/silver/pages").glob(f"event_date={TUE}/*.parquet"):
        path.unlink()
    assert lake.read(PAGES, [WED, THU])["id"].sort().to_list() == ["c", "d"]
    assert lake.read(PAGES, [MON, THU])["id"].sort().to_list() == ["a", "d"]
    of_day = field("event_date") == date.fromisoformat(MON)
    assert arrow_dataset(lake, PAGES).to_table(filter=of_day, columns=["id"]).to_pylist() == [{"id": "a"}]
    with pytest.raises(Exception, match=r"(?i)no such file|not found"):
        lake.read(PAGES, [TUE])


def test_a_file_is_written_beside_the_tables_and_written_over(lake, tmp_path):
    for content in (b"one", b"two"):
        place = write_file(lake, "reports/data_docs/silver_pages.html", content)
        assert Path(place).read_bytes() == content
    assert place == str(tmp_path / "lake/reports/data_docs/silver_pages.html")
    assert not lake.exists("reports/data_docs")
