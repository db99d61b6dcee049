import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.text import content_hash, document_text, normal_forms, normalise

# Pieces that meet at the seams of the rules: entities, names, links, marks, blanks, half surrogates.
PIECES = [
    "&",
    "amp;",
    "lt;",
    "#51;",
    "@",
    "＠",
    "bob",
    "http://",
    "www.",
    "a.b",
    "\u0301",
    "\u200b",
    "\ud83d",
    "😀",
    "Ａ",
]
PIECES += [" ", "\u3000", "\n", "\r\n", "\u2028", "\x85", "\x00", "é", "_", "/", "ﬁ"]
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
@example("&amp;lt;")
@example("＆lt;")
@example("@q\u0301")
def test_a_normal_form_is_its_own_normal_form(text):
    assert normalise(normalise(text)) == normalise(text)


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT.map(lambda text: re.sub("[&＆@＠]", "", text)))
def test_a_normal_form_without_entities_and_names_is_its_own_normal_form(text):
    assert normalise(normalise(text)) == normalise(text)


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
def test_a_normal_form_can_be_written_and_has_no_loose_blanks(text):
    normal = normalise(text)
    normal.encode("utf-8")
    assert normal == normal.strip()
    assert "  " not in normal
    assert not re.search(r"\n\s|\s\n|[\t\r\x00\u200b]", normal)
    assert not re.search(r"(https?://|www\.)\S", normal, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("see https://example.org/a?b=1 now", "see http now"),
        ("WWW.Example.org", "http"),
        ("HTTPS://EXAMPLE.ORG and www.example.org", "http and http"),
        ("thanks @Bob_7, and @ann!", "thanks @user, and @user!"),
        ("＠bob wrote", "@user wrote"),
        ("write to bob@example.org", "write to bob@example.org"),
        ("@@bob", "@@bob"),
        ("Fish &amp; chips &#8364;5 &lt;3", "Fish & chips €5 <3"),
        ("\uff26\uff35\uff2c\uff2c width, ﬁve, ①", "FULL width, five, 1"),
        ("cafe\u0301", "café"),
        ("half \ud83d pair", "half pair"),
        ("zero\u200bwidth and\x00nul \ufeffmark", "zero width and nul mark"),
        ("👩\u200d🚀 joined", "👩\u200d🚀 joined"),
        ("  a\t b \u3000c  ", "a b c"),
        ("title  \r\n\n\t body\n", "title\nbody"),
        ("\ud800", ""),
        (" \n\t ", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_masks_entities_blanks_and_signs(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize("name", ["मोदी", "ประยุทธ์", "தமிழ்"])
def test_names_of_every_script_are_masked_whole(name):
    assert normalise(f"@{name} hello") == "@user hello"


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT, ANY_TEXT)
@example("Ｆish &amp; chips\u200b", "Fish  & chips")
@example("http://a.example", "http://b.example")
def test_hashes_are_equal_where_normal_forms_are_and_only_there(one, other):
    (first, second), (first_hash, second_hash) = normal_forms([one, other])
    assert (first, second) == (normalise(one), normalise(other))
    assert (first_hash == second_hash) == (first == second)
    assert first_hash == content_hash(first)
    assert re.fullmatch("[0-9a-f]{64}", first_hash)


def test_the_hash_is_sha256_of_utf8():
    assert content_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_hash("\ud800") == content_hash("?")


def test_a_document_is_its_title_above_its_text():
    assert document_text("Title", "Text") == "Title\nText"
    assert document_text(None, "Text") == document_text("", "Text") == "Text"
    assert document_text("Title", None) == "Title"
    assert document_text(None, None) == ""
