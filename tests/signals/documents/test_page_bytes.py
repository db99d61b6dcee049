import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.documents.page_bytes import charset, is_html, media_type, text_of

JAPANESE = "市議会は火曜日、古い石橋を修理することを決定した。工事は来月始まり、半年ほどかかる見込みだ。"
CHINESE = "今天的天气非常好我们一起去公园散步看到了很多美丽的花朵和树木"
KOREAN = "시의회는 화요일에 오래된 돌다리를 수리하기로 결정했다. 똠방각하와 펲시콜라를 샀다."
RUSSIAN = "Сегодня в городе открылась новая библиотека с большим читальным залом."
FRENCH = "Le café était très bon à Genève, où les élèves étudiaient près du château pendant l'été."
QUOTES = "“It’s costly” — the price is 5 € said the seller at the market"
GREEK = "Σήμερα άνοιξε στην πόλη μια νέα βιβλιοθήκη με μεγάλο αναγνωστήριο."
SCRIPTS = [JAPANESE, CHINESE, KOREAN, RUSSIAN, FRENCH, QUOTES, GREEK]


def html(text, head=""):
    return f"<!DOCTYPE html><html><head>{head}<title>a</title></head><body><p>{text}</p></body></html>"


@pytest.mark.parametrize(
    ("text", "label", "codec"),
    [
        (JAPANESE, "EUC-JP", "euc_jp"),
        (JAPANESE, "x-sjis", "cp932"),
        ("①髙﨑 " + JAPANESE, "Shift_JIS", "cp932"),
        (JAPANESE, "iso-2022-jp", "iso2022_jp"),
        (CHINESE, "gbk", "gbk"),
        ("镕 " + CHINESE, "GB2312", "gb18030"),
        ("一個美麗的城市今天開放了新的圖書館", "Big5", "big5"),
        (KOREAN, "euc-kr", "cp949"),
        (RUSSIAN, "windows-1251", "cp1251"),
        (RUSSIAN, "KOI8-R", "koi8-r"),
        (FRENCH, "latin1", "latin-1"),
        (QUOTES, "iso-8859-1", "cp1252"),
        (GREEK, "iso-8859-7", "iso8859-7"),
        (FRENCH, "utf-16le", "utf-16-le"),
        (FRENCH, "utf-16", "utf-16-le"),
        (FRENCH, "utf-16be", "utf-16-be"),
    ],
)
def test_the_charset_of_the_header_decides_as_a_browser_would_read_it(text, label, codec):
    assert text_of(html(text).encode(codec), label) == html(text)
    assert text_of(html(text).encode(codec), f'"{label}"'.strip('"').upper()) == html(text)


@pytest.mark.parametrize("text", SCRIPTS)
@pytest.mark.parametrize(
    "label", [None, "iso-8859-1", "windows-1252", "gbk", "shift_jis", "koi8-r", "euc-kr", "nonsense"]
)
def test_a_header_that_lies_about_utf8_does_not_win(text, label):
    assert text_of(html(text).encode(), label) == html(text)


@pytest.mark.parametrize(
    ("text", "codec"), [(RUSSIAN, "cp1251"), (JAPANESE, "euc_jp"), (JAPANESE, "cp932"), (CHINESE, "gb18030")]
)
def test_bytes_that_are_no_utf8_are_not_read_as_it_though_the_header_says_so(text, codec):
    labels = {"cp1251": "windows-1251", "euc_jp": "euc-jp", "cp932": "shift_jis", "gb18030": "gb2312"}
    head = f"<meta charset={labels[codec]}>"
    assert text_of(html(text, head).encode(codec), "utf-8") == html(text, head)
    assert text in (text_of(html(text * 3).encode(codec), "utf-8") or "")


@pytest.mark.parametrize(
    ("text", "codec"), [(FRENCH, "cp1252"), (KOREAN, "cp949"), (RUSSIAN, "koi8-r"), (GREEK, "cp1253")]
)
def test_a_charset_that_nobody_states_is_told_by_the_bytes(text, codec):
    assert text_of(html(text).encode(codec)) == html(text)


def test_the_header_comes_before_the_meta_element_and_a_mark_before_both():
    head = "<meta charset='windows-1251'>"
    assert text_of(html(FRENCH, head).encode("latin-1"), "iso-8859-1") == html(FRENCH, head)
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        assert text_of(mark + html(FRENCH, head).encode(codec), "koi8-r") == html(FRENCH, head)


def test_a_charset_that_the_bytes_contradict_is_passed_over():
    head = "<meta charset='shift_jis'>"
    assert text_of(html(JAPANESE, head).encode("cp932"), "iso-8859-1") == html(JAPANESE, head)
    assert text_of(html(JAPANESE, head).encode("cp932"), "euc-jp") == html(JAPANESE, head)


def test_a_damaged_character_does_not_change_how_the_others_are_read():
    body = html(FRENCH * 3).encode().replace("è".encode(), b"\xe8", 1)
    for label in (None, "utf-8", "iso-8859-1"):
        assert text_of(body, label) == html(FRENCH * 3).replace("è", "\N{REPLACEMENT CHARACTER}", 1)


def test_few_bytes_that_could_be_utf8_are_what_the_header_says():
    body = html("联通").encode("gbk").replace("联通".encode("gbk"), b"\xc2\xaa\xcd\xa8")
    assert text_of(body, "gbk") == html(b"\xc2\xaa\xcd\xa8".decode("gbk"))
    assert text_of(body, None) == html(b"\xc2\xaa\xcd\xa8".decode())


@pytest.mark.parametrize(
    "label", ["utf-7", "base64", "rot13", "unicode-escape", "idna", "", " ", "\0", "é", "a" * 9_999]
)
def test_what_is_no_charset_of_the_web_is_passed_over(label):
    assert text_of(html(FRENCH).encode(), label) == html(FRENCH)
    assert FRENCH in (text_of(html(FRENCH, "<meta charset=windows-1252>").encode("cp1252"), label) or "")


def test_what_is_no_text_is_none():
    for body in (
        b"\0" * 500,
        b"%PDF-1.7 <html>",
        b"\x89PNG\r\n\x1a\n<html>",
        b"PK\x03\x04<html>",
        b"<html>" + b"\0\1" * 99,
    ):
        assert text_of(body) is None


@given(st.binary(max_size=300), st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["utf-16", "gbk", "hz"])))
def test_any_bytes_are_some_text_or_none(body, label):
    text = text_of(body, label)
    assert text is None or text.encode("utf-8") is not None


@pytest.mark.parametrize(
    ("header", "media", "of"),
    [
        ("text/html; charset=EUC-JP", "text/html", "EUC-JP"),
        (' Text/HTML;  Charset="utf-8" ; q=1', "text/html", "utf-8"),
        ("text/html;charset='gbk'", "text/html", "gbk"),
        ("text/html", "text/html", None),
        ("charset=utf-8", "", "utf-8"),
        ("nonsense", "", None),
        ("", "", None),
        (None, "", None),
    ],
)
def test_a_content_type_states_media_type_and_charset(header, media, of):
    assert (media_type(header), charset(header)) == (media, of)


@pytest.mark.parametrize(
    ("text", "told", "untold"),
    [
        ("<!DOCTYPE html><html>", True, True),
        ("\ufeff \n<!-- saved --><!--[if IE]><![endif]-->\n<HTML lang=en>", True, True),
        ("<?xml version='1.0'?><!DOCTYPE html PUBLIC '-'><html>", True, True),
        ("<p>just a fragment", True, True),
        ("<br/>Warning", True, True),
        ("Warning: include() failed\n<!DOCTYPE html><html>", True, False),
        ("<svg xmlns='http://www.w3.org/2000/svg'>", False, False),
        ("<?xml version='1.0'?><rss>", False, False),
        ("<urlset><url>", False, False),
        ("<unknown>", False, False),
        (json.dumps({"html": "<html><body>a"}), False, False),
        ("words", False, False),
        ("", False, False),
        ("<!-- never closed", False, False),
    ],
)
def test_a_page_is_told_by_its_type_or_by_how_it_begins(text, told, untold):
    assert is_html(text, "text/html") == is_html(text, "application/xhtml+xml") == told
    assert is_html(text, "") == is_html(text, "text/plain") == is_html(text, "application/octet-stream") == untold
    assert not is_html(text, "application/json")
    assert not is_html(text, "application/rss+xml")
