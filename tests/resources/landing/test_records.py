import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from resources.landing.records import Digest, Record, parse_line, source_name

# Names of files, as bytes.
NAMES = st.binary(min_size=1, max_size=6).map(lambda name: name.translate(None, b"/\0") or b"_")
RECORDS = st.one_of(
    st.binary(max_size=9).map(lambda line: Record(1, line=line)),
    st.dictionaries(st.text(max_size=3), st.none() | st.binary(max_size=3) | st.text(max_size=3) | st.integers()).map(
        lambda fields: Record(1, fields)
    ),
    st.text(st.characters(exclude_categories=()), max_size=3).map(lambda raw: Record(1, broken="not_json", raw=raw)),
)


@given(st.binary(max_size=60))
def test_any_line_is_either_an_object_or_broken_by_a_known_rule(line):
    found = parse_line(line, 1)
    assert (found.fields is None) == (found.broken in {"not_json", "not_an_object", "not_utf8"})
    assert found.fields is None or isinstance(found.fields, dict)


@given(st.lists(NAMES, max_size=9))
def test_names_of_files_are_utf_8_and_each_its_own(names):
    paths = {Path("/landing/pages") / f"{os.fsdecode(name)}.html" for name in (*names, b"\xff", b"%FF", b"%25FF")}
    found = {source_name(path, Path("/landing")) for path in paths}
    assert len({name.encode() for name in found}) == len(paths)
    assert {"pages/%FF.html", "./pages/%FF.html", "pages/%25FF.html"} <= found


def content_of(records):
    """Return records without where they lie."""
    return [
        record.line.strip() if record.line is not None else (list((record.fields or {}).items()), record[2:])
        for record in records
    ]


@given(st.lists(RECORDS, max_size=5), st.lists(RECORDS, max_size=5))
def test_records_have_one_digest_if_they_say_the_same_and_only_then(some, others):
    numbers = []
    for records in (some, others, [record._replace(position=7) for record in some]):
        digest = Digest()
        for record in records:
            digest.add(record)
        numbers.append(digest.number)
    assert 0 <= min(numbers) <= max(numbers) < 2**62
    assert numbers[0] == numbers[2]
    assert (numbers[0] == numbers[1]) == (content_of(some) == content_of(others))
