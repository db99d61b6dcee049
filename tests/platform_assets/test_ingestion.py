import gzip
import json
import os
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets import ingestion
from platform_assets.bronze import page_fetches, seller_declarations
from platform_assets.ingestion import ingest
from platform_assets.publishing import QUARANTINE
from resources.lakehouse.checkpoints import LEDGER
from resources.lakehouse.tables import Lakehouse
from resources.landing import increments
from resources.landing.folders import LocalFile, landed_files
from resources.landing.ledger import Ledger
from resources.settings import configure
from resources.settings import settings as current
from tests.platform_assets.test_parsing import GOOD, NOW, SCHEMA
from tests.resources.landing.test_readers import warc, zstd
from tests.support.kills import KilledError, dying_at_commits


class DyingBeforeAppend(Lakehouse):
    """A lakehouse whose process dies before rows are appended."""

    def append_once(self, table, rows, before, after):
        if rows.height and table == SCHEMA.table:
            raise KilledError
        super().append_once(table, rows, before, after)


class Landing:
    """A landing folder with one file, and the lakehouse that it is ingested into."""

    def __init__(self, folder):
        self.root, self.lake = folder / "landing", Lakehouse(uri=str(folder / "lake"))
        (self.root / "messages").mkdir(parents=True)
        self.file = self.root / "messages" / "a.jsonl"
        self.file.touch()

    def write(self, *ids, file=None):
        """Append a record for each id, and a broken line for each None."""
        lines = ["{broken" if one is None else json.dumps(GOOD | {"id": one}) for one in ids]
        with (self.root / "messages" / file if file else self.file).open("a", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)

    def ingest(self, now=NOW, lake=None):
        return ingest(lake or self.lake, SCHEMA, landed_files(self.root, "messages"), now)

    def stored(self):
        return sorted(self.lake.read(SCHEMA.table)["id"].to_list())

    def broken(self):
        return sorted(self.lake.read(QUARANTINE).select("source", "position", "rule").rows())


@pytest.fixture
def landing(tmp_path):
    return Landing(tmp_path)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(increments, "CHUNK", 4)


def test_ingesting_twice_is_ingesting_once(landing):
    landing.write("a", None, "b")
    assert landing.ingest() == {"rows_in": 3, "rows_out": 2, "rows_quarantined": 1, "rows_suppressed": 0, "files": 1}
    version = landing.lake.version(SCHEMA.table)
    assert landing.ingest() == {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "rows_suppressed": 0, "files": 0}
    assert landing.lake.version(SCHEMA.table) == version
    assert landing.stored() == ["a", "b"]
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json")]
    row = landing.lake.read(SCHEMA.table).sort("id").row(0, named=True)
    assert (row["source"], row["position"], row["received_at"]) == ("messages/a.jsonl", 1, NOW)


def test_a_file_that_grew_is_read_on(landing):
    landing.write("a", "b")
    landing.ingest()
    landing.write("c", None)
    assert landing.ingest(NOW + timedelta(hours=1)) == {
        "rows_in": 2,
        "rows_out": 1,
        "rows_quarantined": 1,
        "rows_suppressed": 0,
        "files": 1,
    }
    assert landing.stored() == ["a", "b", "c"]
    assert landing.broken() == [("messages/a.jsonl", 4, "not_json")]
    assert Ledger(landing.lake, SCHEMA.table).files["messages/a.jsonl"].position == 4


def rewritten(path, data, *, times_put_back=False):
    found = path.stat()
    path.write_bytes(data)
    if times_put_back:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def lines(*ids):
    return "".join(json.dumps(GOOD | {"id": one}) + "\n" for one in ids).encode()


@pytest.mark.parametrize("times_put_back", [False, True])
@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("now", ["x", "xyzuvw", "xyz", "axc", "xbc", ""], ids=lambda ids: ids or "nothing")
def test_a_rewritten_file_is_read_as_a_whole_whatever_its_size(landing, now, packed, times_put_back):
    landing.file.unlink()
    landing.file = landing.file.with_suffix(".jsonl.gz") if packed is gzip.compress else landing.file
    landing.file.write_bytes(packed(lines(*"abc")))
    landing.ingest()
    rewritten(landing.file, packed(lines(*now)), times_put_back=times_put_back)
    assert receiving_finds_more(landing)
    assert landing.ingest()["rows_in"] == len(now)
    assert landing.ingest() == {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "rows_suppressed": 0, "files": 0}
    assert landing.stored() == sorted([*"abc", *now])
    with landing.file.open("ab") as stream:
        stream.write(packed(lines("later")))
    assert landing.ingest()["rows_in"] == 1
    rows = landing.lake.read(SCHEMA.table)
    assert rows.height == rows.select("source", "position").n_unique()
    assert rows.sort("position")["id"].to_list() == [*"abc", *now, "later"]


def receiving_finds_more(landing):
    kept = current()
    configure(landing=landing.root)
    try:
        return ingestion.has_unread(landing.lake, SCHEMA)
    finally:
        configure(**kept.model_dump())


def test_a_file_that_is_written_again_as_it_was_is_looked_into_once_and_nothing_is_read_twice(landing):
    landing.write("a", None, "b")
    landing.ingest()
    content = landing.file.read_bytes()
    for change in (
        landing.file.touch,
        lambda: landing.file.write_bytes(content),
        lambda: landing.file.chmod(0o600),
        lambda: (landing.file.unlink(), landing.file.write_bytes(content)),
        lambda: os.utime(landing.file, (1, 1)),
    ):
        time.sleep(0.02)
        change()
        assert receiving_finds_more(landing)
        assert landing.ingest() == {
            "rows_in": 0,
            "rows_out": 0,
            "rows_quarantined": 0,
            "rows_suppressed": 0,
            "files": 1,
        }
        assert not receiving_finds_more(landing)
        assert landing.ingest()["files"] == 0
    landing.write("c")
    assert landing.ingest()["rows_in"] == 1
    assert landing.stored() == ["a", "b", "c"]


def test_a_file_that_has_not_been_written_is_not_opened(landing, monkeypatch):
    landing.write("a")
    landing.ingest()
    monkeypatch.setattr(LocalFile, "records", None)
    assert landing.ingest()["files"] == 0


def test_a_file_packed_anew_holds_nothing_new(landing):
    path = landing.root / "messages" / "b.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*"abc"), 1))
    landing.ingest()
    path.write_bytes(gzip.compress(lines(*"abcd"), 9))
    assert landing.ingest()["rows_in"] == 1
    assert landing.stored() == list("abcd")


def test_what_is_still_being_written_is_read_when_it_is_whole_and_once(landing):
    packed, whole = gzip.compress(lines(*(f"{n}" for n in range(200)))), lines("a", "b")
    path = landing.root / "messages" / "b.jsonl.gz"
    for share in (0.2, 0.5, 0.9, 1):
        path.write_bytes(packed[: int(len(packed) * share)])
        landing.file.write_bytes(whole[: int(len(whole) * share)])
        landing.ingest()
    assert landing.stored() == sorted(["a", "b", *(f"{n}" for n in range(200))])
    assert {rule for _, _, rule in landing.broken()} == {"corrupt_file", "unfinished_line"}


def test_a_file_that_cannot_be_read_for_a_while_is_not_taken_for_another(landing):
    path = landing.root / "messages" / "b.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*"abc")))
    landing.ingest()
    for garbage in (b"garbage", b"other garbage"):
        path.write_bytes(garbage)
        assert landing.ingest()["rows_quarantined"] == 1
        assert landing.ingest()["files"] == 0
    path.write_bytes(gzip.compress(lines(*"abc") + lines("d")))
    landing.ingest()
    assert landing.stored() == list("abcd")


def test_a_file_that_goes_away_while_others_are_read_is_passed_over(landing):
    landing.write("a")
    landing.write("b", file="b.jsonl")
    files = landed_files(landing.root, "messages")
    landing.file.unlink()
    assert ingest(landing.lake, SCHEMA, files, NOW) == {
        "rows_in": 1,
        "rows_out": 1,
        "rows_quarantined": 0,
        "rows_suppressed": 0,
        "files": 1,
    }


@pytest.mark.parametrize("name", ["story.html", "story.html.gz", "cat.png"])
def test_a_page_or_picture_that_changes_is_read_again_and_one_that_does_not_is_not(tmp_path, name):
    path, lake = tmp_path / "landing" / "pages" / name, Lakehouse(uri=str(tmp_path / "lake"))
    path.parent.mkdir(parents=True)

    def ingested(body):
        path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
        ingest(lake, page_fetches.SCHEMA, landed_files(tmp_path / "landing", "pages"), NOW)
        return lake.read(page_fetches.SCHEMA.table).sort("position")["body"].to_list()

    assert ingested(b"<p>old") == [b"<p>old"]
    assert ingested(b"<p>new") == [b"<p>old", b"<p>new"]
    assert ingested(b"<p>new") == [b"<p>old", b"<p>new"]
    assert ingested(b"<p>old") == [b"<p>old", b"<p>new", b"<p>old"]


@settings(deadline=None, max_examples=12)
@given(st.lists(st.tuples(st.text("abc", max_size=9), st.integers(0, 3), st.booleans()), min_size=1, max_size=4))
def test_whatever_becomes_of_a_file_and_whenever_it_is_killed_its_records_are_there_as_often_as_it_told_them(
    tmp_path_factory, versions
):
    landing, expected, read = Landing(tmp_path_factory.mktemp("history")), [], ""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(increments, "CHUNK", 3)
        for now, kills, grown in versions:
            content = read + now if grown else now
            landing.file.write_bytes(lines(*content))
            mortal = dying_at_commits(landing.lake.uri)
            for _ in range(kills):
                with suppress(KilledError):
                    landing.ingest(lake=mortal)
            landing.ingest()
            expected += content.removeprefix(read)
            read = content
            rows = landing.lake.read(SCHEMA.table).sort("position")
            assert rows["id"].to_list() == expected
            assert rows["position"].is_unique().all()


def test_a_commit_holds_so_many_bytes_at_most(landing, monkeypatch):
    monkeypatch.setattr(increments, "CHUNK_BYTES", 1_000)
    commits = []

    class Counting(Lakehouse):
        def append_once(self, table, rows, before, after):
            if table == SCHEMA.table:
                commits.append(rows["id"].str.len_bytes().sum())
            super().append_once(table, rows, before, after)

    for number in range(6):
        landing.write(f"{number}" * 300, f"{number}" * 2_000, f"{number}" * 100, file=f"{number}.jsonl")
    landing.ingest(lake=Counting(uri=landing.lake.uri))
    assert len(landing.stored()) == 18
    assert max(commits) == 2_000 + 300  # a record is not divided


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe.jsonl",
        b"a\nb.jsonl",
        b"a b%20%.jsonl",
        "é.jsonl".encode(),
        "e\u0301.jsonl".encode(),
        b"x" * 249 + b".jsonl",
        b"\xe9t\xe9/a.jsonl",
        b"'\"; DROP.jsonl",
        "\u202e\U0001f600.jsonl".encode(),
    ],
)
def test_a_file_of_any_name_is_read_once(landing, name):
    path = landing.root / "messages" / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lines("a") + b"broken\n")
    landing.write("b")
    assert landing.ingest()["rows_in"] == 3
    assert landing.ingest()["files"] == 0
    path.write_bytes(lines("a") + b"broken\n" + lines("c"))
    assert landing.ingest()["rows_in"] == 1
    assert landing.stored() == ["a", "b", "c"]
    assert landing.lake.read(SCHEMA.table)["source"].n_unique() == 2


@pytest.mark.parametrize(
    ("expected", "name", "content"),
    [
        (page_fetches.SCHEMA, b"pages/\xff.html", b"<p>page"),
        (page_fetches.SCHEMA, b"pages/\xff.html.gz", gzip.compress(b"<p>page", mtime=0)),
        (page_fetches.SCHEMA, b"pages/\xff/a.png", b"PNG"),
        (page_fetches.SCHEMA, b"pages/\xff.jsonl.zst", zstd(b'{"url": "https://a.example/"}\n')),
        (page_fetches.SCHEMA, b"pages/\xff.warc", warc(1)),
        (page_fetches.SCHEMA, b"pages/\xff.warc.zst", zstd(warc(1))),
        (seller_declarations.SCHEMA, b"supply_chain/\xff/ads.txt", b"x.example, 1, DIRECT"),
        (seller_declarations.SCHEMA, b"supply_chain/\xff/a.example/ads.txt.zst", zstd(b"")),
    ],
    ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) and len(value) < 50 else None,
)
def test_whatever_lies_under_a_name_that_is_not_utf_8_is_read_or_quarantined_once(tmp_path, expected, name, content):
    path, lake = tmp_path / "landing" / os.fsdecode(name), Lakehouse(uri=str(tmp_path / "lake"))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    ingest(lake, expected, landed_files(tmp_path / "landing", expected.folder), NOW)
    assert ingest(lake, expected, landed_files(tmp_path / "landing", expected.folder), NOW)["files"] == 0
    broken = lake.read(QUARANTINE)["rule"].to_list()
    assert lake.read(expected.table).height + len(broken) == 1
    assert broken == (
        ["not_a_domain:declared_by"] if path.parent.name == os.fsdecode(b"\xff") and "sup" in str(path) else []
    )


def test_undeclared_fields_never_widen_the_table_whatever_they_are_called(landing):
    landing.write("a")
    landing.ingest()
    columns = landing.lake.columns(SCHEMA.table)
    more = [
        {"extra": 5},
        {"extra": "a text"},
        {"Source": "x", "EVENT_DATE": "y", "Received_At": "z", "ID": "w"},
        {"source": "x", "event_date": "y", "position": "z", "undeclared": "w"},
        {f"field {number}": number for number in range(300)},
    ]
    with landing.file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(GOOD | {"id": f"b{n}"} | fields) + "\n" for n, fields in enumerate(more))
    landing.ingest()
    rows = landing.lake.read(SCHEMA.table).sort("id")
    assert landing.lake.columns(SCHEMA.table) == columns
    assert landing.broken() == []
    assert rows["undeclared"][0] is None
    assert [json.loads(said) for said in rows["undeclared"][1:]] == more
    assert rows["source"].n_unique() == 1


@pytest.mark.usefixtures("small_chunks")
def test_files_are_read_in_chunks_across_files(landing):
    landing.write(*(f"a{i}" for i in range(6)))
    landing.write(*(f"b{i}" for i in range(3)), file="b.jsonl")
    landing.write("c0", None, "c2", file="c.jsonl")
    assert landing.ingest() == {"rows_in": 12, "rows_out": 11, "rows_quarantined": 1, "rows_suppressed": 0, "files": 3}
    assert landing.stored() == [*(f"a{i}" for i in range(6)), *(f"b{i}" for i in range(3)), "c0", "c2"]
    landing.write("a6")
    landing.write("b3", "b4", file="b.jsonl")
    assert landing.ingest()["rows_in"] == 3
    assert len(landing.stored()) == len(set(landing.stored())) == 14


@pytest.mark.parametrize("rows", [3, 4, 8], ids=["less than a chunk", "a chunk", "two chunks"])
@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_grew_by_nothing_is_not_read_again_later(landing, rows):
    landing.write(*(f"{i}" for i in range(rows)))
    landing.ingest()
    with landing.file.open("a", encoding="utf-8") as stream:
        stream.write("\n")
    landing.ingest()
    landing.write("new")
    landing.ingest()
    assert landing.stored() == sorted([*(f"{i}" for i in range(rows)), "new"])


def test_an_empty_file_and_no_file_make_an_empty_table(landing):
    assert landing.ingest() == {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "rows_suppressed": 0, "files": 1}
    assert landing.stored() == landing.broken() == []
    landing.file.unlink()
    assert landing.ingest() == {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "rows_suppressed": 0, "files": 0}


@pytest.mark.parametrize(
    "later",
    [
        timedelta(minutes=5),
        pytest.param(
            timedelta(days=1),
        ),
    ],
    ids=["the same day", "after midnight"],
)
@pytest.mark.usefixtures("small_chunks")
def test_a_kill_between_quarantine_and_append_loses_and_doubles_nothing(landing, later):
    landing.write("a", None, "b", "c", None, "d")
    with pytest.raises(KilledError):
        landing.ingest(lake=DyingBeforeAppend(uri=landing.lake.uri))
    assert landing.stored() == []
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json")]
    assert landing.ingest(NOW + later)["rows_in"] == 6
    assert landing.stored() == ["a", "b", "c", "d"]
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json"), ("messages/a.jsonl", 5, "not_json")]


@pytest.mark.usefixtures("small_chunks")
def test_a_kill_between_chunks_goes_on_where_it_was(landing):
    landing.write(*(f"{i}" for i in range(9)))

    class DyingLater(DyingBeforeAppend):
        def append_once(self, table, rows, before, after):
            if LEDGER in before and before[LEDGER] is None:
                Lakehouse.append_once(self, table, rows, before, after)
            else:
                super().append_once(table, rows, before, after)

    with pytest.raises(KilledError):
        landing.ingest(lake=DyingLater(uri=landing.lake.uri))
    assert len(landing.stored()) == 4
    assert landing.ingest()["rows_in"] == 5
    assert landing.stored() == [f"{i}" for i in range(9)]


def test_a_rival_that_read_the_same_file_first_wins_and_nothing_is_doubled(landing):
    landing.write("a", None, "b")

    class Overtaken(Lakehouse):
        def append_once(self, table, rows, before, after):
            if rows.height:
                landing.ingest()
            super().append_once(table, rows, before, after)

    with pytest.raises(Exception, match="another writer has read the same sources"):
        landing.ingest(lake=Overtaken(uri=landing.lake.uri))
    assert landing.stored() == ["a", "b"]
    assert landing.broken() == [("messages/a.jsonl", 2, "not_json")]
