import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.documents.json_text import Edit, edited, members, parsed, with_items, with_members

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
OBJECTS = st.dictionaries(st.text(), VALUES)
INDENTS = st.sampled_from([None, 0, 1, "\t"])


@given(OBJECTS, INDENTS, st.booleans())
def test_members_are_where_they_stand(told, indent, ascii_only):
    text = json.dumps(told, indent=indent, ensure_ascii=ascii_only)
    assert {name: json.loads(text[start:end]) for name, (start, end) in members(text, 0).items()} == told


@given(OBJECTS, OBJECTS, INDENTS)
def test_members_come_after_those_that_an_object_has(told, new, indent):
    new = {name: value for name, value in new.items() if name not in told}
    text = json.dumps(told, indent=indent)
    at, added = with_members(text, 0, new)
    assert list(json.loads(edited(text, [Edit(at, added)])).items()) == [*told.items(), *new.items()]


@given(st.lists(VALUES), st.lists(VALUES), INDENTS)
def test_items_come_after_those_that_a_list_has(told, new, indent):
    text = json.dumps(told, indent=indent)
    assert json.loads(edited(text, [with_items(text, len(text), new, empty=not told)])) == told + new


def test_an_edit_leaves_every_spelling_as_it_is():
    text = ' {"a" : 1.10, "b":1e400,"c":\t-0.0 , "d":"\\u00e9\\/", "a":12345678901234567890123456789,"é":[ ] }\n'
    end = members(text, 1)["é"][1]
    added = edited(text, [with_members(text, 1, {"z": "ü"}), with_items(text, end, [1], empty=True)])
    assert added == text.replace("[ ]", '[1 ],"z":"\\u00fc"')


def test_of_members_of_one_name_the_last_counts():
    text = '{"a": {"b": 1}, "a": {"c": 2}}'
    assert parsed(text) == {"a": {"c": 2}}
    assert text[slice(*members(text, 0)["a"])] == '{"c": 2}'


def test_long_numbers_are_read():
    assert parsed("1" * 4_000) == int("1" * 4_000)
    assert parsed("1e400") == float("inf")


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[Infinity]", "\ufeff{}", "{} {}", "[" * 100_000, "1" * 5_000, '{"a":' * 100_000]
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        parsed(text)
