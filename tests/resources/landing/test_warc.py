import gzip
import json
import random
import tracemalloc
import zlib
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.landing.readers import read_warc
from resources.landing.records import Record
from resources.landing.warc import MAX_HEADER, CodingError, decode_content, join_chunks

MANY = 1_000_000
PAGE = b"<!DOCTYPE html><html><body><p>" + b"The harbour opens on Monday. " * 20 + b"</p></body></html>"


def arrow(codec):
    return lambda data: pa.compress(data, codec=codec, asbytes=True)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def chunked(data, size=50):
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CODINGS = {
    "br": arrow("brotli"),
    "zstd": arrow("zstd"),
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "identity": bytes,
    "gzip, br": lambda data: arrow("brotli")(gzip.compress(data)),
    "br,gzip,zstd": lambda data: arrow("zstd")(gzip.compress(arrow("brotli")(data))),
}


def entry(name, http=b"", body=b"", *, kind=b"response", media=b"application/http; msgtype=response", more=b""):
    block = (http + b"\r\n\r\n" if http else b"") + body
    return (
        b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: https://news.example/%s\r\nWARC-Date: 2026-11-24T10:00:00Z\r\n"
        b"Content-Type: %s\r\n%sContent-Length: %d\r\n\r\n%s\r\n\r\n" % (kind, name, media, more, len(block), block)
    )


def answer(name, body=PAGE, status=b"200 OK", **headers):
    said = b"".join(b"\r\n%s: %s" % (key.replace("_", "-").encode(), value) for key, value in headers.items())
    return entry(name, b"HTTP/1.1 " + status + said, body)


def read(folder, data, name="a.warc", max_bytes=MANY):
    path = folder / name
    path.write_bytes(data)
    return list(read_warc(path, max_bytes))


def told(records: list[Record]):
    return [record.broken or record.fields["url"].rsplit("/")[-1] for record in records]


@pytest.mark.parametrize("packed", [False, True])
def test_every_page_of_a_mixed_file_is_read_whatever_wraps_it(tmp_path, packed):
    entries = [answer(b"first", Content_Type=b"text/html; charset=utf-8")]
    for number, (coding, pack) in enumerate(CODINGS.items()):
        entries.append(answer(b"%d" % number, pack(PAGE), Content_Encoding=coding.encode()))
        entries.append(answer(b"plain", PAGE))
    wrapped = {"Content_Encoding": b"br", "Transfer_Encoding": b"chunked"}
    entries += [answer(b"chunked", chunked(arrow("brotli")(PAGE)), **wrapped), answer(b"last")]
    data = b"".join(map(gzip.compress, entries)) if packed else b"".join(entries)
    found = read(tmp_path, data, "a.warc.gz" if packed else "a.warc")
    assert [record.position for record in found] == list(range(1, len(entries) + 1))
    assert [record.fields["body"] for record in found] == [PAGE] * len(entries)
    assert [record.fields.get("content_encoding") for record in found[1:-2:2]] == list(CODINGS)
    assert found[0].fields == {
        "url": "https://news.example/first",
        "fetched_at": "2026-11-24T10:00:00Z",
        "body": PAGE,
        "http_status": 200,
        "content_type": "text/html; charset=utf-8",
    }


def test_what_http_said_is_kept_as_received(tmp_path):
    status = [b"200 OK", b"301 Moved", b"404", b"503 Service Unavailable"]
    found = read(tmp_path, b"".join(answer(b"a", PAGE, one, content_TYPE=b"Text/HTML;x=y") for one in status))
    assert [record.fields["http_status"] for record in found] == [200, 301, 404, 503]
    assert {record.fields["content_type"] for record in found} == {"Text/HTML;x=y"}


def test_other_records_are_no_fetches_and_a_resource_is_its_own_body(tmp_path):
    entries = [
        entry(b"info", body=b"software: a\r\n", kind=b"warcinfo", media=b"application/warc-fields"),
        entry(b"asked", b"GET / HTTP/1.1\r\nHost: a", kind=b"request", media=b"application/http; msgtype=request"),
        entry(b"cat.png", body=b"\x89PNG", kind=b"resource", media=b"image/png"),
        entry(b"again", b"HTTP/1.1 200 OK", kind=b"revisit"),
        entry(b"name", body=b"1.2.3.4", media=b"text/dns"),
    ]
    found = read(tmp_path, b"".join(entries))
    assert [(record.fields["content_type"], record.fields["body"]) for record in found] == [
        ("image/png", b"\x89PNG"),
        ("text/dns", b"1.2.3.4"),
    ]


@pytest.mark.parametrize("coding", [name for name in CODINGS if name != "identity"])
def test_what_a_crawler_has_decoded_already_is_as_it_is(coding):
    pictures = (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"\xff\xd8\xff" + bytes(range(256)))
    for body in (PAGE, "﻿<p>é".encode(), "<p>é".encode("latin-1"), b"{}", b"", *pictures):
        assert decode_content(body, coding, MANY) == body


@pytest.mark.parametrize("coding", [name for name in CODINGS if name != "identity"])
def test_what_is_damaged_or_cut_short_is_named(coding):
    packed = CODINGS[coding](random.Random(1).randbytes(5_000))
    for damaged in (packed[:-1], packed[: len(packed) // 2], b"\xff\xfb\x90" + packed[40:]):
        with pytest.raises(CodingError, match="bad_content_encoding"):
            decode_content(damaged, coding, MANY)


@pytest.mark.parametrize("coding", ["compress", "exi", "br, br, br, br", "utf-8"])
def test_a_coding_that_is_not_known_is_named_or_none(coding):
    with pytest.raises(CodingError, match="bad_content_encoding"):
        decode_content(b"\xfe\xfb\x90" * 99, coding, MANY)


def test_what_unpacks_to_more_than_a_record_may_have_is_too_large_and_little_is_unpacked():
    for coding in ("br", "zstd", "gzip", "deflate", "gzip, br"):
        packed = CODINGS[coding](b"<p>" + b"\0" * 100_000_000)
        tracemalloc.start()
        with pytest.raises(CodingError, match="too_large"):
            decode_content(packed, coding, MANY)
        assert tracemalloc.get_traced_memory()[1] < 20 * MANY
        tracemalloc.stop()


@given(st.binary(max_size=400), st.sampled_from(["br", "gzip", "zstd", "deflate", "gzip,br", "x", ""]))
def test_any_bytes_are_decoded_or_named(body, coding):
    with suppress(CodingError):
        assert len(decode_content(body, coding, 1_000)) <= 1_000


def test_chunks_are_joined_where_they_are_chunks():
    assert join_chunks(chunked(PAGE)) == PAGE
    assert join_chunks(chunked(b"")) == b""
    assert join_chunks(PAGE) == PAGE
    assert join_chunks(b"face\nbook") == b"face\nbook"
    with pytest.raises(CodingError, match="bad_transfer_encoding"):
        join_chunks(chunked(PAGE)[:-60])


def test_a_response_that_cannot_be_read_is_named_and_what_follows_it_is_read(tmp_path):
    bad = {
        "bad_content_encoding": answer(b"a", b"\xff\xfb\x90" * 99, Content_Encoding=b"br"),
        "bad_transfer_encoding": answer(b"a", chunked(PAGE)[:-60], Transfer_Encoding=b"chunked"),
        "too_large": answer(b"a", gzip.compress(b"\0" * 2 * MANY), Content_Encoding=b"gzip"),
        "bad_http_header": entry(b"a", b"ICY 200 OK", PAGE),
        "truncated": entry(b"a", b"HTTP/1.1 200 OK", PAGE, more=b"WARC-Truncated: length\r\n"),
        "header_too_large": answer(b"a", X_Long=b"a" * 2 * MAX_HEADER),
    }
    data = b"".join(part for one in bad.values() for part in (one, answer(b"good")))
    assert told(read(tmp_path, data)) == [part for rule in bad for part in (rule, "good")]


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("header_too_large", entry(b"a" * 2 * MAX_HEADER, body=b"WARC/1.0\r\nWARC-Type: response\r\n\r\n")),
        ("header_too_large", entry(b"a", body=PAGE, more=b"X-Other: a\r\n" * MAX_HEADER)),
        ("bad_warc_header", b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: many\r\n\r\n"),
        ("bad_warc_header", b"WARC/1.0\r\nWARC-Type: response\r\n\r\n"),
        ("bad_warc_header", b"what a crash has left\nbehind WARC/1.0\n\n"),
    ],
)
def test_a_header_that_cannot_be_read_is_named_and_what_follows_it_is_read(tmp_path, rule, broken):
    found = read(tmp_path, answer(b"one") + broken + answer(b"two"))
    assert told(found) == ["one", rule, "two"]
    assert [record.position for record in found] == [1, 2, 3]


@pytest.mark.parametrize("line", [b"X-Other: %s\r\n", b"WARC-Target-URI: %s\r\n", b"%s\r\n"])
# Without the budget it takes minutes.
@pytest.mark.timeout(40)
def test_a_header_line_of_fifty_megabytes_is_passed_over(tmp_path, line):
    broken = entry(b"a", body=PAGE, more=line % (b"a" * 50_000_000))
    path = tmp_path / "a.warc"
    path.write_bytes(broken + answer(b"next"))
    tracemalloc.start()
    assert told(list(read_warc(path, MANY))) == ["header_too_large", "next"]
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@settings(max_examples=60)
@given(st.data())
def test_a_file_that_is_cut_or_damaged_anywhere_never_stops_the_reading(tmp_path_factory, data):
    whole = answer(b"one") + answer(b"two", gzip.compress(PAGE), Content_Encoding=b"gzip") + answer(b"three")
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.binary(max_size=30)) + whole[at + data.draw(st.integers(0, 200)) :]
    found = read(tmp_path_factory.mktemp("warc"), damaged)
    assert [record.position for record in found] == list(range(1, len(found) + 1))
    assert all(record.broken or record.fields for record in found)
    json.dumps([record.raw for record in found])


def test_a_file_that_is_still_being_written_gives_what_it_has_and_then_the_rest(tmp_path):
    whole = answer(b"one") + answer(b"two")
    before = read(tmp_path, whole[: len(whole) - 50])
    assert told(before) == ["one", "corrupt_file"]
    assert told(read(tmp_path, whole)) == ["one", "two"]
