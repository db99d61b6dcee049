import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.landing.folders import landed_files
from resources.landing.readers import FOLDERS, read_lines, read_warc, read_whole
from tests.resources.landing.test_records import NAMES

MANY = 10_000_000


def landing(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}\n")
    return root


def test_files_are_found_by_folder_and_ending_in_order_of_their_names(tmp_path):
    landing(
        tmp_path,
        "messages/b.jsonl",
        "messages/a.ndjson.gz",
        "messages/2026/11/c.JSONL.zst",
        "messages/readme.md",
        "messages/data.csv",
        "messages/picture.png",
        "elsewhere/x.jsonl",
        "pages/p.html",
        "pages/q.HTM.gz",
        "pages/r.warc.gz",
        "pages/s.jsonl",
    )
    assert [file.name for file in landed_files(tmp_path, "messages")] == [
        "messages/2026/11/c.JSONL.zst",
        "messages/a.ndjson.gz",
        "messages/b.jsonl",
    ]
    assert {file.folder for file in landed_files(tmp_path, "pages")} == {"pages"}
    assert [getattr(file.read, "func", file.read) for file in landed_files(tmp_path, "pages")] == [
        read_whole,
        read_whole,
        read_warc,
        read_lines,
    ]


def test_hidden_and_half_written_files_are_left_alone(tmp_path):
    landing(
        tmp_path,
        "users/.a.jsonl",
        "users/_SUCCESS.jsonl",
        "users/_temporary/0/b.jsonl",
        "users/.cache/c.jsonl",
        "users/a.jsonl.tmp",
        "users/a.jsonl.part",
        "users/a.jsonl.gz.crdownload",
        "users/_temporary.jsonl/c.jsonl",
        "users/d.jsonl",
    )
    (tmp_path / "users" / "folder.jsonl").mkdir()
    assert [file.name for file in landed_files(tmp_path, "users")] == ["users/d.jsonl"]


@pytest.fixture
def warnings(caplog):
    """What has been warned of since it was last asked for."""

    def logged():
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    return logged


def test_links_that_lead_out_are_not_read_with_one_warning(tmp_path, warnings):
    root = landing(tmp_path / "landing", "users/a.jsonl", "elsewhere/b.jsonl")
    out = landing(tmp_path / "landing-too", "secret.jsonl", "more/c.jsonl")
    (root / "users" / "file.jsonl").symlink_to(out / "secret.jsonl")
    (root / "users" / "folder").symlink_to(out)
    (root / "users" / "relative.jsonl").symlink_to("../../landing-too/secret.jsonl")
    (root / "users" / "by-a-link-inside").symlink_to(root / "users" / "folder")
    (root / "messages").symlink_to(out)
    assert [file.name for file in landed_files(root, "users")] == ["users/a.jsonl"]
    (warning,) = warnings()
    assert warning == (
        "links that lead out of the landing folder are not read: "
        "'users/by-a-link-inside', 'users/file.jsonl', 'users/folder' and 1 more"
    )
    landed_files(root, "users")
    assert warnings() == []
    assert landed_files(root, "messages") == []
    assert warnings() == ["links that lead out of the landing folder are not read: 'messages'"]


def test_links_that_lead_out_are_not_read_for_a_corpus_either(tmp_path, warnings):
    root = landing(tmp_path / "landing", "rtb_openrtb/bsm_openrtb/a.json")
    out = landing(tmp_path / "out", "secret.json", "ads.txt")
    (root / "rtb_openrtb" / "bsm_openrtb" / "b.json").symlink_to(out / "secret.json")
    (root / "rtb_openrtb" / "supply_chain").symlink_to(out)
    os.mkfifo(root / "rtb_openrtb" / "bsm_openrtb" / "c.json")
    assert [file.path.name for file in landed_files(root, "rtb_auctions")] == ["a.json"]
    assert landed_files(root, "supply_chain") == []
    assert len(warnings()) == 2


def test_what_links_lead_to_inside_is_read_once_and_a_cycle_ends(tmp_path, warnings):
    root = landing(tmp_path, "users/a.jsonl", "users/x/b.jsonl", "archive/c.jsonl", "archive/deep/d.jsonl")
    (root / "users" / "0 latest.jsonl").symlink_to(root / "users" / "a.jsonl")
    (root / "users" / "0 x").symlink_to("x")
    (root / "users" / "old").symlink_to("../archive")
    (root / "users" / "e.jsonl").symlink_to("../archive/c.jsonl")
    (root / "users" / "up").symlink_to("..")
    (root / "users" / "x" / "here").symlink_to(".")
    (root / "archive" / "deep" / "back").symlink_to("../../users")
    (root / "users" / "itself.jsonl").symlink_to("itself.jsonl")
    (root / "users" / "nothing.jsonl").symlink_to("gone.jsonl")
    names = [file.name for file in landed_files(root, "users")]
    assert names == ["users/a.jsonl", "users/e.jsonl", "users/old/deep/d.jsonl", "users/x/b.jsonl"]
    (warning,) = warnings()
    assert warning.endswith("itself.jsonl' cannot be looked into, and is not read: Too many levels of symbolic links")


def test_the_landing_folder_itself_may_be_a_link(tmp_path):
    landing(tmp_path / "there", "users/a.jsonl")
    (tmp_path / "here").symlink_to("there")
    assert [file.name for file in landed_files(tmp_path / "here", "users")] == ["users/a.jsonl"]


def test_what_is_no_file_is_not_opened(tmp_path):
    root = landing(tmp_path, "users/a.jsonl")
    os.mkfifo(root / "users" / "b.jsonl")
    (root / "users" / "c.jsonl").symlink_to("b.jsonl")
    (root / "users" / "d.jsonl").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{os.open(root / 'users', os.O_RDONLY)}/e.jsonl")
        assert [file.name for file in landed_files(root, "users")] == ["users/a.jsonl"]


@settings(max_examples=30)
@given(st.sets(st.tuples(st.sampled_from(["a", "b", "a/b"]), NAMES), max_size=6))
def test_pages_without_an_address_are_each_their_own(tmp_path_factory, places):
    root = tmp_path_factory.mktemp("pages")
    for folder, name in places:
        path = root / "pages" / folder / f"page {os.fsdecode(name)}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"<p>page")
    urls = [record.fields["url"] for file in landed_files(root, "pages") for record in file.records(MANY)]
    assert len(set(urls)) == len(urls) == len(places)
    assert all(url.isascii() and url.startswith("file:///pages/") for url in urls)


def test_each_write_is_seen_without_a_look_into_the_file(tmp_path):
    path = tmp_path / "users" / "a.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"{}\n")
    (file,) = landed_files(tmp_path, "users")
    for number in range(100):
        state = file.state
        list(file.records(MANY))
        path.write_bytes(b"%d\n" % number)
        os.utime(path, ns=(1, 1))
        assert file.state != state


def test_the_landing_folder_itself_may_lie_below_a_hidden_one(tmp_path):
    root = landing(tmp_path / ".work" / "_in", "users/a.jsonl")
    assert [file.name for file in landed_files(root, "users")] == ["users/a.jsonl"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_that_is_not_there_has_no_files(tmp_path, folder):
    assert landed_files(tmp_path, folder) == []
    assert landed_files(tmp_path / "nowhere", folder) == []
