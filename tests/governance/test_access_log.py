"""Every way in which a log can be tampered with is found, also by who computes the chain anew."""

import json
from datetime import UTC, datetime

import pytest

from governance.access import Identity
from governance.access_log import Access, digest_of, faults, head_of, line_after

KEY, NOW = b"a key of the tests", datetime(2026, 12, 1, tzinfo=UTC)
ASKS = Identity("key 1a2b", "analyst", "acme")


def chain(count=5, key=KEY, who=ASKS):
    """Return the lines of a log and its anchors."""
    lines, anchors, head = [], {}, None
    for number in range(count):
        more = {"tables": ("gold/a",), "rows": number, "outcome": "answered", "query": "SELECT ?"}
        line = line_after(head, Access.of(who, "sql", "SELECT 1", key, **more), NOW, key)
        head = head_of(line)
        lines.append(line)
        anchors[head.number] = head.dump()
    return lines, anchors


def found_in(lines, anchors, key):
    return list(faults({number: line for number, line in enumerate(lines, 1) if line is not None}, anchors, key))


def changed(line, **fields):
    """Return a line with other content, whose own digest fits."""
    content = json.loads(line) | fields
    return json.dumps(content | {"digest": digest_of(content)})


def test_a_log_as_it_was_written_has_no_fault():
    assert found_in(*chain(), KEY) == []
    assert found_in([], {}, KEY) == []
    assert found_in(*chain(key=None), None) == []


TAMPERED = {
    "a value changed": (lambda lines: [line.replace('"rows": 2', '"rows": 9') for line in lines], "line 3 was"),
    "and its digest": (lambda lines: [*lines[:2], changed(lines[2], rows=9), *lines[3:]], "line 3 is not"),
    "one removed": (lambda lines: [*lines[:2], None, *lines[3:]], "line 3 is missing"),
    "and the rest renamed": (lambda lines: [*lines[:2], *lines[3:]], "line 3 calls itself 4"),
    "the first removed": (lambda lines: lines[1:], "line 1 calls itself 2"),
    "two reordered": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2 calls itself 3"),
    "one repeated": (lambda lines: [*lines, lines[-1]], "line 6 calls itself 5"),
    "the end cut off": (lambda lines: lines[:3], "line 4 is missing"),
    "all removed": (lambda _: [], "line 1 is missing"),
    "one added": (lambda lines: [*lines, line_after(head_of(lines[-1]), ADDED, NOW, None)], "line 6 is not signed"),
    "one broken": (lambda lines: [*lines[:2], lines[2][:-9], *lines[3:]], "line 3 is no line"),
    "no object": (lambda lines: [*lines[:2], "[]", *lines[3:]], "line 3 is no line"),
}
ADDED = Access("key 1", "engineer", None, "sql", (), 0, "answered", None, "")


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_with_lines_is_found(how):
    lines, anchors = chain()
    tamper, says = TAMPERED[how]
    found = found_in(tamper(lines), anchors, KEY)
    assert any(fault.startswith(says) for fault in found), found


@pytest.mark.parametrize("key", [None, b"a key that is another"])
def test_a_chain_that_was_computed_anew_is_found_by_its_anchors_and_its_signatures(key):
    _, anchors = chain()
    forged, of_forged = chain(who=Identity("key 9", "analyst", "acme"), key=key)
    assert any("not the one that was anchored" in fault for fault in found_in(forged, anchors, None))
    assert found_in(forged, of_forged, KEY) == [f"line {n} is not signed with this key" for n in range(1, 6)]


@pytest.mark.parametrize("number", range(1, 6))
def test_tampering_with_any_line_and_with_any_head_is_found(number):
    lines, anchors = chain()
    for field in json.loads(lines[0]):
        other = json.dumps(json.loads(lines[number - 1]) | {field: "x"})
        assert found_in([*lines[: number - 1], other, *lines[number:]], anchors, KEY), field
    assert found_in(lines, anchors | {number: anchors[number].replace("a", "b")}, KEY)
    assert found_in(lines, {n: head for n, head in anchors.items() if n != number}, KEY)


def test_a_question_cannot_be_guessed_without_the_key():
    one, other = (Access.of(ASKS, "sql", "u-1", key, tables=(), rows=0, outcome="", query=None) for key in (KEY, None))
    assert one.question != other.question
    assert "u-1" not in str(one)
