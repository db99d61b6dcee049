import gzip
import os
from datetime import UTC, datetime
from itertools import pairwise

import boto3
import pytest
from botocore.exceptions import IncompleteReadError
from hypothesis import given
from hypothesis import strategies as st

from resources.landing import bucket as module
from resources.landing.bucket import (
    ALL_NAMES,
    LOOK_BACK,
    MAX_RANGES,
    Bucket,
    BucketObject,
    NoBucketError,
    likely_ranges,
)
from resources.landing.folders import landed_files
from resources.landing.records import ReplacedError
from resources.settings import load_settings
from resources.sources.incremental import SourceError

MANY = 10_000_000


def within(name, found):
    return any(name > after and (until is None or name <= until) for after, until in found)


def test_of_a_folder_of_few_files_everything_is_looked_at():
    assert likely_ranges({}) == ALL_NAMES
    assert likely_ranges({f"{n:04}": n for n in range(LOOK_BACK)}) == ALL_NAMES
    assert likely_ranges({f"{n:04}": -n for n in range(LOOK_BACK)}) == ALL_NAMES


def test_where_names_go_by_the_time_it_is_looked_at_the_end():
    assert likely_ranges({f"{n:05}": n // 100 for n in range(20_000)}) == [(f"{19_999 - LOOK_BACK:05}", None)]


def test_each_of_several_writers_that_go_by_the_time_is_looked_at_and_no_more_than_some_places():
    for writers in (3, 20):
        read = {f"region-{n % writers:02}/{n:06}": n for n in range(60_000)}
        found = likely_ranges(read)
        assert len(found) == min(writers, MAX_RANGES)
        assert found == sorted(found)
        # Those whose names came last are looked at, and whatever sorts last.
        looked = [within(f"region-{writer:02}/{n:06}", found) for writer in range(writers) for n in (60_000,)]
        assert sum(looked) == min(writers, MAX_RANGES)
        assert looked[-1]


@given(st.dictionaries(st.text("abc/", max_size=6), st.integers(0, 9), max_size=60))
def test_stretches_are_in_order_and_apart_and_end_with_the_end(read):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOOK_BACK", 5)
        found = likely_ranges(read)
    assert found[-1][1] is None
    assert len(found) <= MAX_RANGES
    for (after, until), (following, _) in pairwise(found):
        assert after < until <= following
    assert sum(within(name, found) for name in read) <= MAX_RANGES * 7


def files(store, folder):
    return list(Bucket(store.uri, load_settings()).files(folder, ALL_NAMES))


@pytest.mark.slow
def test_a_bucket_holds_the_files_that_a_folder_of_the_same_names_holds(store, tmp_path):
    names = [
        "messages/a.jsonl",
        "messages/2026/11/c.JSONL.zst",
        "messages/an odd name é%20+?#&.ndjson.gz",
        "messages/readme.md",
        "messages/_temporary/0/b.jsonl",
        "messages/.cache/c.jsonl",
        "messages/a.jsonl.tmp",
        "messages/a.jsonl.part",
        "messages-other/a.jsonl",
        "pages/p.html",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}\n")
        store.put(name)
    store.put("messages/")
    for folder in ("messages", "pages", "users"):
        here, there = landed_files(tmp_path, folder), files(store, folder)
        assert sorted(one.name for one in there) == sorted(one.name for one in here)
    assert Bucket(store.uri, load_settings()).folders() == {"messages", "messages-other", "pages"}


def test_a_name_that_no_file_may_have_is_read():
    class Written:
        def download(self, _, path):
            path.write_bytes(b"<p>long")

    file = BucketObject(Written(), "pages", f"pages/{'é' * 300}.html.gz/{'é' * 300}.html", "", 7, datetime.now(UTC))
    (found,) = file.records(MANY)
    assert (found.fields["body"], found.fields["content_type"]) == (b"<p>long", "text/html")


@pytest.mark.slow
def test_an_upload_in_parts_is_there_once_it_is_completed(store):
    key = f"{store.prefix}/messages/parts.jsonl"
    upload = store.client.create_multipart_upload(Bucket=store.name, Key=key)["UploadId"]
    part = {"Bucket": store.name, "Key": key, "UploadId": upload}
    first = b'{"a": 1}\n' * 600_000
    tags = [store.client.upload_part(**part, PartNumber=1, Body=first)["ETag"]]
    assert files(store, "messages") == []
    tags.append(store.client.upload_part(**part, PartNumber=2, Body=b'{"a": 2}\n')["ETag"])
    assert files(store, "messages") == []
    parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    store.client.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
    (file,) = files(store, "messages")
    assert sum(1 for _ in file.records(MANY)) == 600_001


@pytest.mark.slow
def test_what_has_been_replaced_or_removed_since_it_was_found_is_left_to_the_next_look(store):
    store.put("messages/a.jsonl", b'{"a": 1}\n')
    store.put("messages/b.jsonl", b'{"b": 1}\n')
    first, second = files(store, "messages")
    store.put("messages/a.jsonl", b'{"a": 2}\n')
    store.client.delete_object(Bucket=store.name, Key=f"{store.prefix}/messages/b.jsonl")
    for file in (first, second):
        with pytest.raises(ReplacedError):
            list(file.records(MANY))
    (file,) = files(store, "messages")
    assert [record.line for record in file.records(MANY)] == [b'{"a": 2}\n']


@pytest.mark.slow
def test_versions_of_one_second_have_times_of_their_own(store):
    reached = 0
    for line in range(4):
        store.put("supply_chain/a.example/ads.txt", f"x.example, {line}, DIRECT\n".encode())
        (file,) = files(store, "supply_chain")
        records = list(file.records(MANY))
        assert records[0].fields["seller_id"] == str(line)
        assert records[0].fields["fetched_at"] > reached
        reached = records[0].fields["fetched_at"]


@pytest.mark.slow
def test_a_store_that_fails_half_way_is_no_damaged_file(store, monkeypatch):
    store.put("messages/a.jsonl.gz", gzip.compress(os.urandom(3 << 20)))
    (file,) = files(store, "messages")

    class Broken:
        def __init__(self, body):
            self.body = body

        def read(self, size):
            if self.body.tell() > 1 << 20:
                raise IncompleteReadError(actual_bytes=1 << 20, expected_bytes=3 << 20)
            return self.body.read(size)

    ask = file.bucket._client.get_object
    monkeypatch.setattr(file.bucket._client, "get_object", lambda **asked: {"Body": Broken(ask(**asked)["Body"])})
    with pytest.raises(SourceError, match=rf"^cannot read {store.uri}/messages/a.jsonl.gz, .*: IncompleteReadError$"):
        list(file.records(MANY))


@pytest.mark.slow
def test_a_store_that_says_no_is_one_line_without_what_grants_access(store, monkeypatch):
    with pytest.raises(NoBucketError, match=r"^there is no bucket nowhere$"):
        Bucket("s3://nowhere/x", load_settings()).folders()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3cret!")
    with pytest.raises(SourceError, match=rf"^cannot read {store.uri}, which LANDING names: SignatureDoesNotMatch$"):
        files(store, "messages")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3cret!")
    with pytest.raises(SourceError, match=rf"^cannot read {store.uri}, which LANDING names: InvalidAccessKeyId$"):
        files(store, "messages")
