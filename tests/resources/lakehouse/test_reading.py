from functools import partial

import pytest

from resources.lakehouse.files import arrow_dataset
from resources.lakehouse.reading import TableMissingError
from tests.support.delta import MON, PAGES, WED, frame


def test_a_table_that_is_read_as_it_was_stays_so_whatever_is_written_and_others_do_not(lake):
    for name in (PAGES, "silver/other"):
        lake.replace_days(name, [MON], frame(("a", 1, MON)))
    then = lake.pinned_to([PAGES])
    for name in (PAGES, "silver/other"):
        lake.replace_days(name, [MON], frame(("b", 2, MON)))
    assert [then.read(name)["id"].item() for name in (PAGES, "silver/other")] == ["a", "b"]
    assert (then.pinned, then.version(PAGES)) == ({PAGES: lake.version(PAGES) - 1}, lake.version(PAGES) - 1)
    assert lake.read(PAGES)["id"].item() == "b"


def test_a_table_that_nothing_has_written_is_named(lake):
    for ask in (lake.open, lake.read, lake.version, lake.columns, lake.count, partial(arrow_dataset, lake), lake.scan):
        with pytest.raises(TableMissingError, match="silver/pages does not exist yet"):
            ask(PAGES)
    assert not lake.exists(PAGES)
    assert (lake.days(PAGES), lake.exists(PAGES), lake.checkpoint(PAGES, "s")) == ([], False, None)


def test_an_older_version_can_be_read(lake):
    first = lake.replace_days(PAGES, [MON], frame(("a", 1, MON)))
    second = lake.replace_days(PAGES, [MON], frame(("b", 1, MON)))
    assert lake.scan(PAGES, version=first).collect()["id"].to_list() == ["a"]
    assert lake.scan(PAGES, version=second).collect()["id"].to_list() == ["b"]


def test_rows_are_counted_and_days_listed_from_the_log(lake, tmp_path):
    lake.replace_days(PAGES, [MON, WED], frame(("a", 1, MON), ("b", 1, MON), ("c", 1, WED)))
    for path in (tmp_path / "lake/silver/pages").glob("*/*.parquet"):
        path.unlink()
    assert lake.count(PAGES) == 3
    assert lake.days(PAGES) == [MON, WED]
