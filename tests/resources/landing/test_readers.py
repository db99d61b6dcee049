import gzip
import io
import json
import os
import random
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from resources.landing.folders import LocalFile, landed_files, written_at
from resources.landing.readers import read_lines, read_warc, read_whole
from resources.landing.records import Record, parse_line
from tests.resources.landing.test_folders import landing

MANY = 10_000_000
ROWS = [{"id": number, "noise": random.Random(number).randbytes(40).hex()} for number in range(2_000)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
SAVED = b"""<!DOCTYPE html>
<html lang="en"><!--
 Page saved with SingleFile
 url: https://news.example/harbour?x=1&y=2
 saved date: Wed Nov 11 2026 07:05:58 GMT-0500 (Eastern Standard Time)
--><body>Ships came in.</body></html>"""


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def lines_of(folder: Path, data: bytes, name: str = "a.jsonl", max_bytes: int = MANY) -> list[Record]:
    path = folder / name
    path.write_bytes(data)
    return read(read_lines(path, max_bytes))


def read(records: Iterable[Record]) -> list[Record]:
    return [record if record.line is None else parse_line(record.line, record.position) for record in records]


def rules(records: list[Record]) -> list[str | None]:
    return [record.broken for record in records]


def warc(pages: int = 3, *, packed: bool = False) -> bytes:
    """Return an archive with an info record, and a request, a response and metadata for each page."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=packed)
    writer.write_record(writer.create_warcinfo_record("crawl.warc", {"software": "a crawler"}))
    for number in range(pages):
        url = f"https://news.example/{number}"
        asked = StatusAndHeaders("GET / HTTP/1.1", [("Host", "news.example")], is_http_request=True)
        writer.write_record(writer.create_warc_record(url, "request", http_headers=asked))
        headers = [("Content-Type", "Text/HTML; charset=utf-8")]
        answered = StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1")
        body = io.BytesIO(b"<p>page %d</p>" % number * 20)
        dated = {"WARC-Date": f"2026-11-0{number + 1}T10:00:00Z"}
        record = writer.create_warc_record(url, "response", body, http_headers=answered, warc_headers_dict=dated)
        writer.write_record(record)
        fields = io.BytesIO(b"fetchTimeMs: 7\r\n")
        writer.write_record(writer.create_warc_record(url, "metadata", fields, warc_content_type="text/plain"))
    return out.getvalue()


def pages_of(folder: Path, data: bytes, name: str = "a.warc", max_bytes: int = MANY) -> list[Record]:
    path = folder / name
    path.write_bytes(data)
    return list(read_warc(path, max_bytes))


@pytest.mark.parametrize(("name", "packed"), [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_lines_are_read_in_order_whatever_the_container(tmp_path, name, packed):
    found = lines_of(tmp_path, packed(LINES), name)
    assert [record.fields for record in found] == ROWS
    assert [record.position for record in found] == list(range(1, len(ROWS) + 1))


@pytest.mark.parametrize(("name", "packed"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_packed_files_that_were_joined_are_read_to_the_end(tmp_path, name, packed):
    assert len(lines_of(tmp_path, packed(LINES) + packed(LINES), name)) == 2 * len(ROWS)


@pytest.mark.parametrize(("name", "packed"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
@pytest.mark.parametrize("left", [0.999, 0.5, 0.001])
def test_a_packed_file_that_is_cut_short_ends_with_one_corrupt_file_record(tmp_path, name, packed, left):
    whole = packed(LINES)
    found = lines_of(tmp_path, whole[: int(len(whole) * left)], name)
    good = found[:-1]
    assert found[-1].broken == "corrupt_file"
    assert found[-1].position == len(good) + 1
    assert [record.fields for record in good] == ROWS[: len(good)]


def test_lines_before_the_cut_of_a_small_gzip_file_are_kept(tmp_path):
    found = lines_of(tmp_path, gzip.compress(b'{"a": 1}\n{"a": 2}\n')[:-4], "a.jsonl.gz")
    assert [record.fields for record in found] == [{"a": 1}, {"a": 2}, None]
    assert found[-1].broken == "corrupt_file"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_that_is_not_what_its_name_says_is_one_corrupt_file_record(tmp_path, name):
    (found,) = lines_of(tmp_path, b'{"a": 1}\n', name)
    assert (found.position, found.broken) == (1, "corrupt_file")
    assert found.raw


def test_damage_in_the_middle_of_a_gzip_file_is_noticed(tmp_path):
    packed = bytearray(gzip.compress(LINES))
    packed[-6] ^= 1
    assert "corrupt_file" in rules(lines_of(tmp_path, bytes(packed), "a.jsonl.gz"))


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"hello", "not_json"),
        (b'{"a": 1', "not_json"),
        (b"{'a': 1}", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": -Infinity}', "not_json"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "not_json"),
        (b'{"a": 1} {"b": 2}', "not_json"),
        (b"[" * 200_000, "not_json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not_json"),
        (b'{"a": 1}\x00', "not_json"),
        (b"[1, 2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"7", "not_an_object"),
        (b'{"a": "\xff\xfe"}', "not_utf8"),
        (b'{"a": "\xc3', "not_utf8"),
        ('{"a": 1}'.encode("utf-16"), "not_utf8"),
    ],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_broken_line_is_kept_with_the_rule_it_breaks_and_the_next_one_is_read(tmp_path, line, rule):
    broken, good = lines_of(tmp_path, line + b'\n{"b": 2}\n')
    assert (broken.position, broken.fields, broken.broken) == (1, None, rule)
    assert broken.raw
    assert (good.position, good.fields) == (2, {"b": 2})


def test_a_byte_order_mark_carriage_returns_and_blank_lines_are_no_fault(tmp_path):
    data = b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n\t{"a": 2} \r\n{"a": 3}'
    found = lines_of(tmp_path, data)
    assert [(record.position, record.fields) for record in found] == [(1, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]


def test_other_line_separators_of_unicode_end_no_line(tmp_path):
    said = "one\u2028two\u0085three"
    (found,) = lines_of(tmp_path, json.dumps({"a": said}, ensure_ascii=False).encode())
    assert found.fields == {"a": said}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_an_empty_file_has_no_records(tmp_path, name):
    assert lines_of(tmp_path, b"", name) == []


def test_a_line_over_the_limit_is_one_record_with_its_beginning_and_the_next_is_read(tmp_path):
    data = b'{"a": "' + b"x" * 5_000 + b'"}\n{"b": 2}\n'
    long, good = lines_of(tmp_path, data, max_bytes=1_000)
    assert (long.position, long.broken) == (1, "too_large")
    assert long.raw == data[:500].decode()
    assert (good.position, good.fields) == (2, {"b": 2})


def test_a_line_over_the_limit_may_be_the_last_and_unended(tmp_path):
    assert rules(lines_of(tmp_path, b"x" * 5_000, max_bytes=1_000)) == ["too_large"]


def test_a_huge_line_is_never_held_in_memory(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    found = list(read_lines(path, 1_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rules(found) == ["too_large"]
    assert peak < 8 << 20


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=200), st.integers(1, 5))
def test_any_bytes_are_read_without_an_error_in_any_container(tmp_path_factory, data, flips):
    folder = tmp_path_factory.mktemp("any")
    for name, packed in {"a.jsonl": bytes, "b.jsonl.gz": gzip.compress, "c.jsonl.zst": zstd}.items():
        damaged = bytearray(packed(data))
        for number in range(min(flips, len(damaged))):
            damaged[-1 - number * 7 % len(damaged)] ^= 0x5A
        for found in (lines_of(folder, data, name), lines_of(folder, bytes(damaged), name)):
            assert [record.position for record in found] == sorted({record.position for record in found})


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([b'{"a": 1}', b"", b"broken", b"[]", b"\xff", b"x" * 2_000]), max_size=8), st.data())
def test_a_file_that_grows_by_lines_keeps_the_records_that_it_had(tmp_path_factory, lines, data):
    folder = tmp_path_factory.mktemp("grows")
    before = lines[: data.draw(st.integers(0, len(lines)))]
    had = lines_of(folder, b"".join(line + b"\n" for line in before), max_bytes=1_000)
    path = folder / "a.jsonl"
    file = LocalFile("messages", "a.jsonl", path, read_lines)
    state = file.state
    with path.open("ab") as out:
        out.writelines(line + b"\n" for line in lines[len(before) :])
        out.flush()
        assert (file.state == state) == (before == lines)
    has = read(file.records(1_000))
    assert has[: len(had)] == had
    assert all(record.position > len(before) for record in has[len(had) :])


def test_a_page_is_read_whole_with_the_address_and_time_that_it_was_saved_with(tmp_path):
    path = tmp_path / "harbour.html"
    path.write_bytes(SAVED)
    (found,) = read_whole(path, MANY, "file:///a")
    assert found.fields == {
        "url": "https://news.example/harbour?x=1&y=2",
        "fetched_at": "2026-11-11T07:05:58-05:00",
        "content_type": "text/html",
        "body": SAVED,
    }


def test_a_saved_page_whose_date_is_missing_or_unreadable_keeps_its_address(tmp_path):
    path = tmp_path / "a.html"
    for date in (b"", b" saved date: yesterday\n", b" saved date: Xyz Nov 99 2026 07:05:58 GMT+0000\n"):
        path.write_bytes(b"<!--\n url: https://news.example/a\n" + date + b"-->")
        (found,) = read_whole(path, MANY, "file:///a")
        assert found.fields["url"] == "https://news.example/a"
        assert "fetched_at" not in found.fields


def test_a_page_without_an_address_is_named_by_where_its_file_lies(tmp_path):
    path = tmp_path / "pages" / "a b" / "my page é.htm.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"<p>url: https://news.example/no-comment"))
    (file,) = landed_files(tmp_path, "pages")
    (found,) = file.records(MANY)
    assert found.fields["url"] == "file:///pages/a%20b/my%20page%20%C3%A9.htm.gz"
    assert found.fields["content_type"] == "text/html"


def test_a_page_over_the_limit_or_cut_short_is_one_broken_record(tmp_path):
    path = tmp_path / "a.html.gz"
    path.write_bytes(gzip.compress(b"x" * 100_000))
    assert rules(list(read_whole(path, 1_000, "file:///a"))) == ["too_large"]
    path.write_bytes(gzip.compress(random.Random(1).randbytes(5_000))[:-20])
    assert rules(list(read_whole(path, MANY, "file:///a"))) == ["corrupt_file"]


@pytest.mark.parametrize(
    ("ending", "media"),
    [("png", "image/png"), ("jpg", "image/jpeg"), ("jpeg", "image/jpeg"), ("gif", "image/gif"), ("webp", "image/webp")],
)
def test_a_picture_is_a_page_of_its_media_type_with_its_bytes(tmp_path, ending, media):
    path = tmp_path / "pages" / f"cat.{ending}"
    path.parent.mkdir()
    Image.new("RGB", (4, 4), "red").save(path)
    (file,) = landed_files(tmp_path, "pages")
    (found,) = file.read(file.path, MANY)
    assert found.fields == {"url": f"file:///pages/cat.{ending}", "content_type": media, "body": path.read_bytes()}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.warc", warc()),
        ("a.warc.gz", warc(packed=True)),
        ("a.warc.gz", gzip.compress(warc())),
        ("a.warc.zst", zstd(warc())),
    ],
    ids=["plain", "gzip by record", "gzip of all", "zstd"],
)
def test_an_archive_gives_its_responses_and_nothing_else(tmp_path, name, data):
    found = pages_of(tmp_path, data, name)
    assert [record.position for record in found] == [1, 2, 3]
    assert [record.fields["url"] for record in found] == [f"https://news.example/{number}" for number in range(3)]
    assert [record.fields["body"] for record in found] == [b"<p>page %d</p>" % number * 20 for number in range(3)]
    assert {record.fields["content_type"] for record in found} == {"Text/HTML; charset=utf-8"}
    assert {record.fields["http_status"] for record in found} == {200}
    assert found[2].fields["fetched_at"] == "2026-11-03T10:00:00Z"


def test_a_response_is_read_as_the_page_it_encodes(tmp_path):
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    for url, header, body in (
        ("https://news.example/packed", ("Content-Encoding", "gzip"), gzip.compress(b"<p>hello</p>")),
        ("https://news.example/chunked", ("Transfer-Encoding", "chunked"), b"5\r\n<p>he\r\n7\r\nllo</p>\r\n0\r\n\r\n"),
    ):
        answered = StatusAndHeaders("200 OK", [header], protocol="HTTP/1.1")
        writer.write_record(writer.create_warc_record(url, "response", io.BytesIO(body), http_headers=answered))
    writer.write_record(
        writer.create_warc_record(
            "https://news.example/cat.png", "resource", io.BytesIO(b"PNG"), warc_content_type="image/png"
        )
    )
    found = pages_of(tmp_path, out.getvalue(), "a.warc.gz")
    assert [record.fields["body"] for record in found] == [b"<p>hello</p>", b"<p>hello</p>", b"PNG"]
    assert [record.fields.get("content_type") for record in found] == [None, None, "image/png"]


def test_an_archive_cut_anywhere_gives_whole_pages_and_says_that_it_was_cut(tmp_path):
    data = warc(2)
    whole = [record.fields for record in pages_of(tmp_path, data)]
    # Between two records nothing shows that more was to come.
    ends = {0, len(data)} | {at + 4 for at in range(len(data)) if data.startswith(b"\r\n\r\nWARC/", at)}
    for at in range(0, len(data), 3):
        found = pages_of(tmp_path, data[:at])
        good = [record.fields for record in found if record.fields]
        assert good == whole[: len(good)], at
        near_an_end = any(end - 4 <= at <= end for end in ends)
        assert near_an_end or found[-1].broken == "corrupt_file", at


def test_a_packed_archive_cut_short_gives_the_pages_before_the_cut(tmp_path):
    data = warc(packed=True)
    for at in range(len(data) // 4, len(data) - 1, 97):
        found = pages_of(tmp_path, data[:at], "a.warc.gz")
        members = data[:at].count(b"\x1f\x8b\x08")
        good = [record for record in found if record.fields]
        assert [record.position for record in found] == list(range(1, len(found) + 1))
        assert len(good) >= (members - 2) // 3
        if not data.startswith(b"\x1f\x8b\x08", at):
            assert found[-1].broken == "corrupt_file", at


def test_what_is_no_archive_is_one_corrupt_file_record(tmp_path):
    for name, data in (("a.warc", b"hello\nthere\n"), ("a.warc.gz", b"hello"), ("a.warc.gz", gzip.compress(b"hi"))):
        assert rules(pages_of(tmp_path, data, name)) == ["corrupt_file"]


def test_a_response_over_the_limit_is_broken_and_the_next_is_read(tmp_path):
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    for number, size in enumerate((5_000, 10)):
        answered = StatusAndHeaders("200 OK", [], protocol="HTTP/1.1")
        body = io.BytesIO(b"x" * size)
        url = f"https://news.example/{number}"
        writer.write_record(writer.create_warc_record(url, "response", body, http_headers=answered))
    long, good = pages_of(tmp_path, out.getvalue(), "a.warc.gz", max_bytes=1_000)
    assert (long.position, long.broken, long.raw) == (1, "too_large", "https://news.example/0")
    assert (good.position, good.fields["body"]) == (2, b"x" * 10)


def test_declarations_are_known_by_their_full_names_and_declared_by_the_folder_that_they_lie_in(tmp_path):
    landing(
        tmp_path,
        "supply_chain/A.example/ads.txt",
        "supply_chain/x.example/SELLERS.json.gz",
        "supply_chain/a.example/app-ads.txt",
        "supply_chain/a.example/README.txt",
        "supply_chain/x.example/all_sellers.json",
        "supply_chain/.cache/ads.txt",
    )
    (tmp_path / "supply_chain/A.example/ads.txt").write_text("x.example, 1, DIRECT\n\noops\n")
    packed = gzip.compress(b'{"sellers": [{"seller_id": "1", "seller_type": "BOTH"}]}')
    (tmp_path / "supply_chain/x.example/SELLERS.json.gz").write_bytes(packed)
    site, exchange = landed_files(tmp_path, "supply_chain")
    assert (site.name, exchange.name) == ("supply_chain/A.example/ads.txt", "supply_chain/x.example/SELLERS.json.gz")
    lines, sellers = ([*file.read(file.path, MANY)] for file in (site, exchange))
    assert [record.position for record in lines] == [1, 3, 4]
    assert lines[0].fields["fetched_at"] == written_at(site.path)
    assert [record.broken for record in lines] == [None, "too_few_fields", None]
    said = [[record.fields[name] for name in ("declared_by", "document", "line", "record")] for record in sellers]
    assert said == [["x.example", "sellers.json", 1, "seller"], ["x.example", "sellers.json", 2, "end"]]
    assert lines[0].fields["declared_by"] == "a.example"


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("supply_chain/ads.txt", "x.example, 1, DIRECT", "not_a_domain:declared_by"),
        ("supply_chain/nowhere/sellers.json", "{}", "not_a_domain:declared_by"),
        ("supply_chain/a.example/ads.txt", "x" * 20_000, "too_large"),
        ("supply_chain/x.example/sellers.json", "[]", "no_sellers"),
        ("supply_chain/x.example/sellers.json.gz", "no gzip", "corrupt_file"),
    ],
)
def test_a_file_that_declares_nothing_is_one_broken_record(tmp_path, name, content, rule):
    landing(tmp_path, name)
    (tmp_path / name).write_text(content)
    (file,) = landed_files(tmp_path, "supply_chain")
    assert [record.broken for record in file.read(file.path, 10_000)] == [rule]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_a_corrupt_file_record(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    path.chmod(0)
    assert rules(list(read_lines(path, MANY))) == ["corrupt_file"]
