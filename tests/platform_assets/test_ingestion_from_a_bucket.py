import gzip
import json
import socket
import threading
from dataclasses import replace

import boto3
import dagster as dg
import polars as pl
import pytest

from platform_assets import ingestion
from platform_assets.bronze import SCHEMAS, social_messages
from platform_assets.ingestion import candidate_files, has_unread, ingest
from platform_assets.publishing import QUARANTINE
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.landing import bucket
from resources.settings import PROJECT, configure
from resources.settings import settings as current
from resources.sources.incremental import SourceError
from tests.conftest import environment, seamless
from tests.platform_assets.test_parsing import GOOD, NOW, SCHEMA
from tests.resources.sources.test_http import serving
from tests.support.kills import KilledError, dying_at_commits

pytestmark = pytest.mark.slow


class Landing:
    """A landing place in a bucket, and the lakehouse that it is ingested into."""

    def __init__(self, store, folder):
        self.store, self.lake = store, Lakehouse(uri=str(folder / "lake"))

    def put(self, name, *ids):
        """Have a file land, with a record for each id."""
        lines = "".join(json.dumps(GOOD | {"id": one}) + "\n" for one in ids)
        self.store.put(f"messages/{name}.jsonl", lines.encode())

    def ingest(self, lake=None, expected=SCHEMA):
        lake = lake or self.lake
        files, listed = candidate_files(lake, expected)
        return ingest(lake, expected, files, NOW, ingestion.sources_of(expected), listed)

    def stored(self):
        return sorted(self.lake.read(SCHEMA.table)["id"].to_list())

    def broken(self):
        return sorted(self.lake.read(QUARANTINE).select("source", "position", "rule").rows())

    def has_unread(self):
        return has_unread(self.lake, SCHEMA)


@pytest.fixture
def landing(store, tmp_path):
    kept = current()
    configure(landing=store.uri)
    yield Landing(store, tmp_path)
    configure(**kept.model_dump())


@pytest.fixture
def listings():
    """The listings that a bucket is asked for from now on: after which key, and how many keys each gives."""
    found = []

    def asked(params, **_):
        found.append([params.get("StartAfter"), 0])

    def answered(parsed, **_):
        found[-1][1] = parsed.get("KeyCount", 0)

    boto3.setup_default_session()
    events = boto3.DEFAULT_SESSION.events
    events.register("provide-client-params.s3.ListObjectsV2", asked)
    events.register("after-call.s3.ListObjectsV2", answered)
    return found


def hour_later(monkeypatch):
    now = ingestion.time.time_ns() + bucket.FULL_LISTING_MS * 10**6
    monkeypatch.setattr(ingestion.time, "time_ns", lambda: now)


def test_what_lands_in_a_bucket_and_in_a_folder_gives_the_same_rows(landing, tmp_path):
    samples = PROJECT / "samples"
    for path in samples.rglob("*"):
        if path.is_file():
            landing.store.put(path.relative_to(samples).as_posix(), path.read_bytes())
    here = Lakehouse(uri=str(tmp_path / "here"))
    landed = [schema for schema in SCHEMAS if not schema.spooled]
    for expected in landed:
        ingest(here, expected, ingestion.landed_files(samples, expected.folder), NOW)
        counted = landing.ingest(expected=expected)
        assert counted["rows_in"] > 0
        assert landing.ingest(expected=expected)["files"] == 0
        assert not has_unread(landing.lake, expected)
    for table in (*(expected.table for expected in landed), QUARANTINE):
        rows, theirs = (lake.read(table) for lake in (landing.lake, here))
        declared = pl.col("source").str.starts_with("supply_chain/")
        order = ["source", "position"]
        assert rows.columns == theirs.columns
        assert rows.filter(~declared).sort(order).equals(theirs.filter(~declared).sort(order)), table
        # A version of a declaration is numbered by when it came to lie where it is.
        rows, theirs = (
            frame.filter(declared).sort(order).drop("position", "fetched_at", "quarantine_id", strict=False)
            for frame in (rows, theirs)
        )
        assert rows.equals(theirs), table


def test_each_file_is_read_once_however_often_is_looked(landing):
    for number in range(5):
        landing.put(f"2026/11/1{number}/a", f"{number}")
    assert landing.ingest()["files"] == 5
    version = landing.lake.version(SCHEMA.table)
    for _ in range(3):
        assert not landing.has_unread()
        assert landing.ingest() == {
            "rows_in": 0,
            "rows_out": 0,
            "rows_quarantined": 0,
            "rows_suppressed": 0,
            "files": 0,
        }
    assert landing.lake.version(SCHEMA.table) == version
    assert landing.stored() == [f"{number}" for number in range(5)]


def test_new_files_are_found_without_a_look_at_the_old_ones(landing, listings, monkeypatch):
    monkeypatch.setattr(bucket, "LOOK_BACK", 5)
    for number in range(60):
        landing.put(f"2026/11/10/{number:03}", f"{number:03}")
    landing.ingest()
    assert [keys for _, keys in listings] == [60]
    for number in range(60, 63):
        landing.put(f"2026/11/10/{number:03}", f"{number:03}")
        listings.clear()
        assert landing.has_unread()
        assert landing.ingest()["files"] == 1
        assert not landing.has_unread()
        after = landing.store.prefix + f"/messages/2026/11/10/{number - 6:03}.jsonl"
        assert listings[:2] == [[after, 6], [after, 6]]
        assert len(listings) == 3
    assert landing.stored() == [f"{number:03}" for number in range(63)]


def test_a_bucket_of_more_files_than_a_page_has_is_read_to_the_end(landing, listings):
    boto3.DEFAULT_SESSION.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: params | {"MaxKeys": 7}
    )
    for number in range(20):
        landing.put(f"{number:03}", f"{number:03}")
    assert landing.ingest()["files"] == 20
    assert [keys for _, keys in listings] == [7, 7, 6]


def test_files_of_several_writers_are_found_and_what_comes_late_within_the_hour(landing, listings, monkeypatch):
    monkeypatch.setattr(bucket, "LOOK_BACK", 2)
    for number in range(20):
        for region in ("eu", "us"):
            landing.put(f"region={region}/{number:03}", f"{region}{number:03}")
    landing.ingest()
    assert not landing.has_unread()
    landing.put("region=us/020", "us020")
    assert landing.has_unread()
    landing.ingest()
    # Nothing has come yet between names that are known: it is found by the look at everything.
    landing.put("region=eu/020", "eu020")
    landing.put("a late one", "late")
    assert not landing.has_unread()
    assert landing.ingest()["files"] == 0
    hour_later(monkeypatch)
    assert landing.has_unread()
    assert landing.ingest()["files"] == 2
    assert not landing.has_unread()
    # From now on this is a place where files come.
    for name in ("region=eu/021", "region=us/021", "a later one"):
        landing.put(name, name)
    listings.clear()
    assert landing.has_unread()
    assert landing.ingest()["files"] == 3
    begun = [None if after is None else after[-len("us/018.jsonl") :] for after, _ in listings]
    assert begun == [None, None, "eu/018.jsonl", "us/018.jsonl"]
    assert len(landing.stored()) == len(set(landing.stored())) == 46


def test_everything_is_looked_at_once_an_hour_also_if_nothing_has_come(landing, monkeypatch):
    monkeypatch.setattr(bucket, "LOOK_BACK", 2)
    for number in range(9):
        landing.put(f"{number}", f"{number}")
    landing.ingest()
    assert not landing.has_unread()
    hour_later(monkeypatch)
    assert landing.has_unread()
    assert landing.ingest()["files"] == 0
    assert not landing.has_unread()


def test_a_look_at_everything_that_did_not_reach_the_end_is_made_again(landing, monkeypatch):
    monkeypatch.setattr(bucket, "LOOK_BACK", 2)
    for number in range(9):
        landing.put(f"b{number}", f"b{number}")
    landing.ingest()
    landing.put("a", "a")
    hour_later(monkeypatch)
    with pytest.raises(KilledError):
        landing.ingest(dying_at_commits(landing.lake.uri))
    assert landing.has_unread()
    assert landing.ingest()["files"] == 1
    assert landing.stored() == ["a", *(f"b{number}" for number in range(9))]


def test_a_kill_at_any_commit_loses_and_doubles_nothing(landing, monkeypatch):
    monkeypatch.setattr(ingestion, "CHUNK", 4)
    for number in range(4):
        landing.put(f"{number}", *(f"{number}-{line}" for line in range(5)), "")
    mortal = dying_at_commits(landing.lake.uri)
    for _ in range(5):
        with pytest.raises(KilledError):
            landing.ingest(mortal)
    landing.ingest()
    assert landing.ingest()["rows_in"] == 0
    assert landing.stored() == sorted(f"{number}-{line}" for number in range(4) for line in range(5))
    assert [rule for _, _, rule in landing.broken()] == ["null:id"] * 4


def test_an_object_that_grew_is_read_on_and_one_that_waits_in_parts_is_not_read(landing):
    landing.put("a", "1", "2")
    landing.ingest()
    key = f"{landing.store.prefix}/messages/b.jsonl"
    upload = landing.store.client.create_multipart_upload(Bucket=landing.store.name, Key=key)["UploadId"]
    part = {"Bucket": landing.store.name, "Key": key, "UploadId": upload}
    body = (json.dumps(GOOD | {"id": "b"}) + "\n").encode()
    tag = landing.store.client.upload_part(**part, PartNumber=1, Body=body)["ETag"]
    assert not landing.has_unread()
    landing.put("a", "1", "2", "3")
    assert landing.has_unread()
    assert landing.ingest() == {"rows_in": 1, "rows_out": 1, "rows_quarantined": 0, "rows_suppressed": 0, "files": 1}
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    landing.store.client.complete_multipart_upload(**part, MultipartUpload=parts)
    assert landing.has_unread()
    assert landing.ingest()["rows_in"] == 1
    assert landing.stored() == ["1", "2", "3", "b"]


def test_an_object_in_whose_place_another_comes_is_read_whatever_its_size_and_the_same_one_is_not_opened(landing):
    landing.put("a", "1", "2")
    landing.ingest()
    for ids in (("3", "2"), ("4",), ("5", "6", "7")):
        landing.put("a", *ids)
        assert landing.has_unread()
        assert landing.ingest()["rows_in"] == len(ids)
        landing.put("a", *ids)
        assert not landing.has_unread()
        assert landing.ingest()["files"] == 0
    assert landing.stored() == sorted(["1", "2", "3", "2", "4", "5", "6", "7"])
    rows = landing.lake.read(SCHEMA.table)
    assert rows.height == rows.select("source", "position").n_unique()


def test_garbage_is_quarantined_once_and_what_follows_is_read(landing):
    landing.store.put("messages/a.jsonl.gz", b"no gzip")
    landing.store.put("messages/b.jsonl.gz", gzip.compress(json.dumps(GOOD).encode() * 99)[:-9])
    landing.store.put("messages/c.jsonl", b"\xff\xfe\n")
    landing.put("d", "good")
    for _ in range(2):
        landing.ingest()
        assert landing.stored() == ["good"]
        assert [rule for _, _, rule in landing.broken()] == ["corrupt_file", "corrupt_file", "not_utf8"]
    assert not landing.has_unread()


def test_what_is_replaced_while_it_is_read_is_read_at_the_next_look(landing):
    landing.put("a", "old")
    landing.put("b", "b")
    files, listed = candidate_files(landing.lake, SCHEMA)
    files = list(files)
    landing.put("a", "new", "newer")
    ingest(landing.lake, SCHEMA, files, NOW, (), listed)
    assert landing.stored() == ["b"]
    assert landing.has_unread()
    landing.ingest()
    assert landing.stored() == ["b", "new", "newer"]


def test_tables_may_be_in_a_bucket_too(landing):
    uri = f"s3://seamless/{landing.store.prefix}-lake"
    landing.lake = lakehouse(current().model_copy(update={"lakehouse_uri": uri}))
    for number in range(12):
        landing.put(f"{number:02}", f"{number:02}")
        assert landing.has_unread()
        assert landing.ingest()["files"] == 1
    assert not landing.has_unread()
    assert landing.stored() == [f"{number:02}" for number in range(12)]


def test_files_that_land_while_others_are_read_are_each_read_once(landing, monkeypatch):
    monkeypatch.setattr(bucket, "LOOK_BACK", 3)
    names, over = [f"{number % 3}/{number:04}" for number in range(120)], threading.Event()
    read = threading.Semaphore(0)

    def write():
        for number, name in enumerate(names):
            if number in (40, 80):  # however fast it is, it meets a look
                read.acquire(timeout=60)
            landing.put(name, name)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while not over.is_set():
        if landing.has_unread():
            landing.ingest()
            read.release()
            looks += 1
    writer.join()
    landing.ingest()
    assert looks > 1
    hour_later(monkeypatch)
    landing.ingest()
    assert landing.stored() == sorted(names)


@pytest.fixture
def nowhere(landing, monkeypatch):
    """An address at which no store answers, in the settings."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setattr(ingestion, "ATTEMPTS", 1)
        configure(landing=landing.store.uri)
        yield


@pytest.mark.usefixtures("nowhere")
def test_a_store_that_does_not_answer_is_one_line_and_other_sources_are_read(landing, caplog):
    fault = f"cannot read {landing.store.uri}, which LANDING names: EndpointConnectionError"
    with serving() as api:
        api.items += [GOOD | {"id": "pulled"}]
        configure(landing=landing.store.uri, pull_url=api.url, pull_requests_per_second=1_000)
        with pytest.raises(SourceError, match=rf"^{fault}$"):
            landing.ingest(expected=replace(SCHEMA, pulled=True))
        assert landing.stored() == ["pulled"]
        assert not landing.has_unread()
        assert caplog.messages == [f"{SCHEMA.table}: {fault}"]
    configure(landing=landing.store.uri)
    with pytest.raises(SourceError, match=rf"^{fault}$"):
        dg.materialize([social_messages.social_messages], resources={"lakehouse": landing.lake})


def test_what_answers_but_is_no_store_is_one_line(landing, monkeypatch):
    with serving() as api:
        api.page = lambda _: b"<html>hello"
        monkeypatch.setenv("AWS_ENDPOINT_URL", api.url.partition("?")[0].rpartition("/")[0])
        configure(landing=landing.store.uri)
        with pytest.raises(SourceError, match=rf"^cannot read {landing.store.uri}, which LANDING names: \w+$"):
            landing.ingest()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("s3://nowhere-at-all/x", "bad settings: LANDING: there is no bucket nowhere-at-all"),
        ("{uri}", "bad settings: LANDING: corpora are read from a folder only, and {uri} holds tweeteval: copy them"),
        ("s3://", "bad settings: LANDING: a folder, file:///folder or s3://bucket/prefix is expected"),
    ],
)
def test_a_run_on_what_is_no_landing_place_says_so_in_one_line(landing, tmp_path, monkeypatch, place, says):
    landing.store.put("tweeteval/hate/mapping.txt")
    monkeypatch.setenv("LANDING", place.format(uri=landing.store.uri))
    ran = seamless(tmp_path, "run")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"seamless: {says.format(uri=landing.store.uri)}")
    assert ran.stderr.count("\n") == 1


@pytest.mark.usefixtures("nowhere")
def test_a_run_whose_store_does_not_answer_fails_in_one_line_without_what_grants_access(landing, tmp_path, monkeypatch):
    monkeypatch.setenv("LANDING", landing.store.uri)
    ran = seamless(tmp_path, "run")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (f"seamless: cannot read {landing.store.uri}, which LANDING names: EndpointConnectionError\n")
    assert environment(tmp_path)["AWS_SECRET_ACCESS_KEY"] not in ran.stderr
