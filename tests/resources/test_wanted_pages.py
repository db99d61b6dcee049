import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

from resources import wanted_pages
from resources.wanted_pages import WantedPages

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def lines(folder):
    return [json.loads(line) for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]


def test_a_page_is_wanted_once_a_day_by_each_tenant_under_its_own_address(tmp_path):
    with closing(WantedPages(tmp_path / "wanted")) as wanted:
        for url in ("https://a.example/x?utm_source=mail", "https://A.example/x#top", "no address", ""):
            wanted.add("harbour", url, NOON)
        wanted.add("meridian", "https://a.example/x", NOON)
        wanted.add("harbour", "https://a.example/x", NOON + timedelta(days=1))
        found = [(line["tenant_id"], line["url"], line["wanted_at"][:10]) for line in lines(tmp_path / "wanted")]
    url = "https://a.example/x"
    assert found == [("harbour", url, "2026-12-01"), ("meridian", url, "2026-12-01"), ("harbour", url, "2026-12-02")]
    assert [file.name[:10] for file in sorted((tmp_path / "wanted").iterdir())] == ["2026-12-01", "2026-12-02"]


def test_no_more_are_kept_than_may_be_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(wanted_pages, "MOST", 2)
    with closing(WantedPages(tmp_path)) as wanted:
        for number in range(9):
            wanted.add("harbour", f"https://a.example/{number}", NOON)
    assert len(lines(tmp_path)) == 2
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_written_to_stops_nobody(tmp_path, caplog):
    wanted = WantedPages(tmp_path / "wanted")
    (tmp_path / "wanted").rmdir()
    wanted.add("harbour", "https://a.example/x", NOON)
    assert "cannot be written" in caplog.text
