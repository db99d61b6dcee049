"""Records that name a subject, and names that are suppressed, whatever they look like."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance import catalog
from governance.erasure import Subject, Suppressions, hashed, named_in, names_subject, names_to_suppress

IDS = st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), min_size=1, max_size=12)
QUARANTINE = catalog.table("silver/quarantine")
MESSAGES = catalog.table("bronze/social_messages")


def nested(name: str) -> st.SearchStrategy[str]:
    """Return records that name an id at any depth, and as text in a record."""
    values = st.recursive(
        st.just(name),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=2),
            st.dictionaries(st.sampled_from(["a", "b"]), inner, min_size=1, max_size=2),
        ),
        max_leaves=3,
    )
    records = values.map(lambda value: {"value": value})
    ascii_or_not = st.booleans()
    written = st.tuples(records, ascii_or_not).map(lambda two: json.dumps(two[0], ensure_ascii=two[1]))
    return st.one_of(written, written.map(lambda record: json.dumps({"raw": record})))


@given(st.data())
def test_a_record_that_names_an_id_is_found_however_it_is_written(data):
    name = data.draw(IDS.filter(lambda name: not name.startswith(("{", "["))))
    rows = pl.DataFrame({"row": [data.draw(nested(name)), '{"value":"another"}', None]})
    found = rows.filter(names_subject(QUARANTINE, rows.schema, Subject(name)))["row"].to_list()
    assert found[:1] == rows["row"].to_list()[:1]
    assert len(found) == 1 + (name == "another")


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ('{"user_id":"u-12"}', True),
        ('{"user_id":"u-123"}', False),
        ('{"page":"https://a.example/?uid=u-12&x=1"}', True),
        ('{"page":"https://a.example/u-12.html"}', False),
        ('{"raw":"{\\"user_id\\": \\"u-12\\", bro"}', True),
        ("u-12", True),
        ("thanks u-12", False),
        ('[["u-12"]]', True),
        ("{" * 100_000, False),
    ],
)
def test_an_id_is_named_as_a_whole_word(record, named):
    assert ("u-12" in named_in(record).names) == named


def test_a_number_is_named_too():
    assert "12" in named_in('{"user_id":12}').names


def test_rows_of_another_tenant_stay_unless_none_is_given():
    rows = pl.DataFrame({"author_id": ["u", "u", "u", "v"], "tenant_id": ["a", "b", None, "a"], "n": [1, 2, 3, 4]})

    def found(tenant: str | None) -> list[int]:
        return rows.filter(names_subject(MESSAGES, rows.schema, Subject("u", tenant)))["n"].to_list()

    assert (found("a"), found("default"), found(None)) == ([1], [3], [1, 2, 3])
    of_a, of_default, broken = '{"user_id":"u","tenant_id":"a"}', '{"user_id":"u","tenant_id":null}', '{"user_id":"u'
    records = pl.DataFrame({"row": [of_a, of_default, broken]})

    def quarantined(tenant: str | None) -> list[str]:
        return records.filter(names_subject(QUARANTINE, records.schema, Subject("u", tenant)))["row"].to_list()

    # The tenant of a broken record is not known: it is erased rather than kept.
    assert (quarantined("a"), quarantined("default"), quarantined("b")) == (
        [of_a, broken],
        [of_default, broken],
        [broken],
    )


@pytest.mark.parametrize(("tenant", "dropped"), [("a", [0]), ("default", [2]), (None, [0, 1, 2])])
def test_the_records_of_a_suppressed_subject_are_dropped_in_its_tenant_alone(tenant, dropped):
    hashes = frozenset(hashed("salt", *name) for name in names_to_suppress(Subject("u", tenant), []))
    rows = pl.DataFrame({"author_id": ["u", "u", "u", "v", None], "tenant_id": ["a", "b", None, "a", "a"]})
    assert Suppressions("salt", hashes).suppressed(MESSAGES, rows).arg_true().to_list() == dropped
    assert not Suppressions("another", hashes).suppressed(MESSAGES, rows).any()
    assert not Suppressions().suppressed(MESSAGES, rows).any()
