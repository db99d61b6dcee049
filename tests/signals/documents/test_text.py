import html
import re
import sys
import unicodedata
from html.entities import codepoint2name

import pytest
from emoji import EMOJI_DATA, STATUS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.documents import text as module
from signals.documents.text import MAX_MARKS, MAX_PASSES, content_hash, document_text, normal_forms, normalise, plain
from tests.support import SHARED

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


@settings(max_examples=200)
@given(ANY_TEXT)
@example("&amp;lt;")
@example("＆lt;")
@example("@q\u0301")
def test_a_normal_form_is_its_own_normal_form(text):
    assert normalise(normalise(text)) == normalise(text)


@settings(max_examples=200)
@given(ANY_TEXT.map(lambda text: re.sub("[&＆@＠]", "", text)))
def test_a_normal_form_without_entities_and_names_is_its_own_normal_form(text):
    assert normalise(normalise(text)) == normalise(text)


@settings(max_examples=200)
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
        ("zero\u200bwidth and\x00nul \ufeffmark", "zerowidth andnul mark"),
        ("so\u00adft h\u034fy\u2060ph\u202een", "soft hyphen"),
        ("一足先に@bobさん、שלום ל@ann", "一足先に@user、שלום ל@user"),
        ("＠ann ﹫bob ＃tag ﹟tag", "@user @user #tag #tag"),
        ("&amp;amp;#38;AMP;lt;3 and &ampamplt; and ＆ａｍｐ；gt;", "<3 and < and >"),
        ("don&#39;t &#x1F389; &#128512;", "don't 🎉 😀"),
        ("TM™ is ™️, ‼ is ‼️, 🈁 is no 🈁\ufe0e", "TMTM is ™️, !! is ‼️, 🈁 is no ココ"),
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


@settings(max_examples=100)
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


# Words of scripts with and without capitals, marks, blanks and joined letters.
WORDS = ["Hate", "naïve", "ЗЛО", "μίσος", "שנאה", "كراهية", "نفرت", "घृणा", "ঘৃণা", "வெறுப்பு", "ความเกลียด", "မုန်း", "증오"]
WORDS += [
    "憎しみ",
    "仇恨",
    "#tag",
    "@ann",
    "don't",
    "2026",
    "😀",
    "❤️",
    "👩\u200d🚀",
    "🏴\U000e0067\U000e0062\U000e007f",
]
JOINERS = "\u200c\u200d"
HIDDEN = [
    sign
    for sign in map(chr, range(sys.maxunicode + 1))
    if (unicodedata.category(sign) in {"Cc", "Cf"} and not sign.isspace() and not "\u0600" <= sign <= "\u08ff")
    or sign in "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180e\u3164\ufe00\ufe0e\ufe0f\uffa0\U000e0100"
]
HIDDEN = [sign for sign in HIDDEN if unicodedata.name(sign, "").find("NUMBER") < 0 and sign not in JOINERS]


@st.composite
def spoilt(draw):
    """Return a text, and the same with invisible characters inside its words."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
    hidden = st.text(st.sampled_from(HIDDEN), max_size=2)
    inside = ["".join(f"{sign}{draw(hidden) if sign.isalpha() else ''}" for sign in word) for word in words]
    return " ".join(words), " ".join(inside)


@settings(max_examples=300)
@given(spoilt())
def test_what_is_invisible_inside_a_word_vanishes(texts):
    one, other = map(normalise, texts)
    assert one == other


def test_letters_apart_by_nothing_are_one_word():
    for sign in HIDDEN + list(JOINERS):
        assert normalise(f"you id{sign}i{sign}{sign}ot") == "you idiot", hex(ord(sign))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("Persian", "می\u200cخواهم"),
        ("Bengali ya-phalaa", "র\u200d্যাম"),
        ("Sinhala", "ශ්\u200dරී"),
        ("Malayalam chillu", "അവന്\u200d"),
        ("Marathi", "क्\u200cष"),
    ],
)
def test_joiners_that_change_how_a_word_is_read_are_kept(language, text):
    assert normalise(text) == text, language


@pytest.mark.parametrize("text", ["ب\u200dب", "ا\u200cب", "ب\u200c ب", "می\u200c", "क\u200cष"])
def test_joiners_that_change_nothing_vanish(text):
    assert normalise(text) == re.sub("[\u200c\u200d]", "", text)


def test_every_emoji_is_kept_as_it_is_written():
    whole = [emoji for emoji, data in EMOJI_DATA.items() if data["status"] == STATUS["fully_qualified"]]
    assert [emoji for emoji in whole if normalise(emoji) != emoji] == []


def test_a_selector_is_kept_where_it_selects():
    assert plain("❤︎ ❤️ ⌚︎ 1️⃣") == "❤︎ ❤️ ⌚︎ 1️⃣"
    assert plain("⌚️ h1️gh a︎b️ ❤️️ ❤︎️") == "⌚ h1gh ab ❤️ ❤︎"


def test_names_with_joiners_and_before_emoji_are_masked_whole():
    assert normalise("@نام\u200cخانوادگی سلام") == "@user سلام"
    assert normalise("@bob1️⃣ @bobℹ️ @bob❤️") == "@user1️⃣ @userℹ️ @user❤️"


def escaped(text):
    """Return ways in which a text is escaped for HTML."""
    named = (f"&{codepoint2name[ord(sign)]};" if ord(sign) in codepoint2name else sign for sign in text)
    return [
        html.escape(text),
        "".join(named),
        "".join(f"&#{ord(sign)};" for sign in text),
        "".join(f"&#X{ord(sign):06x};" for sign in text),
    ]


# A reference cannot name half a character, a control character or what is none.
WRITABLE = st.characters(exclude_categories=("Cs", "Cc", "Cn"))
SCRIPTS = st.text(WRITABLE) | st.lists(st.sampled_from(WORDS + list("&<>\"'#;")), max_size=8).map(" ".join)


@settings(max_examples=300)
@given(SCRIPTS)
def test_a_text_escaped_once_or_twice_has_the_same_normal_form(text):
    for once in escaped(text):
        assert normalise(once) == normalise(text)
        for twice in escaped(once):
            assert normalise(twice) == normalise(text)


# The number of ``5`` is 53: each level writes the first digit of the next.
NESTED_NUMBERS = "&#" * 5_000 + "5" + "3;" * 5_000
HOSTILE = {
    "escaped again and again": "&" + "amp;" * 20_000 + "lt;",
    "without semicolons": "&" + "amp" * 20_000 + "lt;",
    "by numbers": "&" + "#38;#x26;#65286;" * 5_000 + "lt;",
    "numbers in numbers": NESTED_NUMBERS,
    "names in names": "&am" * 5_000 + "p;" * 5_000,
    "a long number": "&#" + "9" * 80_000 + ";",
    "leading zeros": "&#" + "0" * 80_000 + "65;",
    "marks out of order": "a" + "\u0301" * 40_000 + "\u0323" * 40_000,
    "marks by reference": "a" + "&#769;" * 10_000 + "&#803;" * 10_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_work_is_bounded_whatever_the_text(text, monkeypatch):
    passes, stacks = [], []
    unescape, compose = html.unescape, unicodedata.normalize
    monkeypatch.setattr(module.html, "unescape", lambda text: passes.append(len(text)) or unescape(text))

    def composed(form, text):
        stacks.extend(map(len, re.findall("[\u0300-\u036f]+", text)))
        return compose(form, text)

    monkeypatch.setattr(module.unicodedata, "normalize", composed)
    normal = normalise(text)
    assert len(passes) <= MAX_PASSES
    assert max(stacks, default=0) <= MAX_MARKS
    assert normalise(normal) == normal


def test_escapes_that_are_nested_too_deep_lose_their_ampersands():
    assert normalise("&" + "amp;" * 20_000 + "lt;") == "<"
    assert "&" not in normalise(NESTED_NUMBERS)
    assert normalise("&#" + "9" * 80_000 + ";") == "\ufffd"
    assert normalise("&#" + "0" * 80_000 + "65;") == "A"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["❤\ufe0f", "\ufe0f", "ب\u200c", "ب\u064b\u200c", "👩\u200d", "🏴\U000e0061", "क्\u200d"]
)
def test_a_megabyte_takes_linear_time(unit):
    assert normalise("❤ ب" + unit * (1_000_000 // len(unit.encode())))


def test_words_that_are_spelt_with_zero_width_spaces_have_the_normal_form_of_the_plain_ones():
    case = SHARED / "cases" / "31-zero-width-space" / "texts.txt"
    if not case.exists():
        pytest.skip(f"{case} is not here")
    lines = case.read_text(encoding="utf-8").splitlines()
    assert list(map(normalise, lines[::2])) == list(map(normalise, lines[1::2]))
    assert lines[::2] != lines[1::2]
