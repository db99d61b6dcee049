import gzip
import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.pages import ARTICLE, MAX_IMAGES, MAX_TEXT, article, articles, detect_language
from signals.text import content_hash, document_text, normalise

DATA = Path(__file__).parents[2].parent / "shared" / "data"
URL = "https://www.example.org/news/story.html?id=7#top"
STORY = (
    "The river rose above the old bridge on Tuesday, and the mayor asked everyone near the mill to leave their homes."
)
FRENCH = "Le café était très bon à Genève, où les élèves étudiaient près du château pendant l'été."
QUOTES = "“It’s costly” — the price is 5 € said the seller at the market in the old town square."
HOSTILE = ["http://[bad/", "http://example.org:port/", "http://example.org:99999/", "http://a℀b/"]


def page(head="", body=f"<p>{STORY}</p>" * 4, html="<html>"):
    return (
        f"<!DOCTYPE html>{html}<head><title>Flood at the mill</title>{head}</head>"
        f"<body><nav><a href='/'>Home</a></nav><article><h1>Flood at the mill</h1>{body}</article></body></html>"
    )


def found(head="", url=URL, **parts):
    return article(url, page(head, **parts).encode())


def test_an_article_is_told_by_title_text_address_and_hash():
    row = found("<meta property='article:published_time' content='2026-11-10T08:00:00Z'>")
    assert list(row) == ARTICLE.names
    assert row["failure"] is None
    assert row["document_id"] == "https://www.example.org/news/story.html?id=7"
    assert row["site"] == "example.org"
    assert row["title"] == "Flood at the mill"
    assert STORY in row["text"]
    assert "Home" not in row["text"]
    assert row["content_hash"] == content_hash(document_text(row["title"], row["text"]))
    assert row["language"] == "en"
    assert row["published_on"] == "2026-11-10"
    assert row["image_urls"] == []


def test_text_and_title_are_in_their_normal_form():
    row = found(body=f"<p>{STORY} See https://example.org/x, says @bob &amp; co.</p>" * 3)
    assert "See http says @user & co." in row["text"]
    assert normalise(row["text"]) == row["text"]


@pytest.mark.parametrize(
    ("text", "charset", "meta"),
    [
        (FRENCH, "iso-8859-1", "<meta charset='ISO-8859-1'>"),
        (QUOTES, "windows-1252", "<meta charset='windows-1252'>"),
        (QUOTES, "windows-1252", "<meta http-equiv='Content-Type' content='text/html; charset=windows-1252'>"),
        ("今天的天气非常好我们一起去公园散步看到了很多美丽的花朵和树木", "gbk", "<meta charset=gbk>"),
        (
            "Сегодня в городе открылась новая библиотека с большим читальным залом.",
            "windows-1251",
            "<meta charset=windows-1251>",
        ),
        (FRENCH, "utf-8", ""),
        (FRENCH, "utf-8", "<meta charset=utf-8>"),
        (FRENCH, "utf-8", "<meta charset=no-such-charset>"),
        (FRENCH, "utf-16", ""),
    ],
)
def test_bytes_are_read_in_the_charset_of_the_page(text, charset, meta):
    row = article(URL, page(meta, f"<p>{text}</p>" * 5).encode(charset))
    assert normalise(text) in row["text"]


def test_text_delivered_as_utf8_is_read_as_such_whatever_its_meta_says():
    row = article(URL, page("<meta charset='iso-8859-1'>", f"<p>{FRENCH}</p>" * 5).encode())
    assert FRENCH in row["text"]


@pytest.mark.parametrize(
    ("head", "document_id"),
    [
        ("<link rel='canonical' href='https://example.org/story'>", "https://example.org/story"),
        ("<link rel='canonical' href='/story#now'>", "https://www.example.org/story"),
        ("<link rel='canonical' href='other.html'>", "https://www.example.org/news/other.html"),
        ("<link rel='canonical' href='https://WWW.EXAMPLE.ORG:443/story'>", "https://www.example.org/story"),
        ("<meta property='og:url' content='/og'>", "https://www.example.org/og"),
        ("<meta property='og:url' content='/og'><link rel='canonical' href='/link'>", "https://www.example.org/link"),
        ("<link rel='canonical' href=''>", "https://www.example.org/news/story.html?id=7"),
        ("<link rel='canonical' href='https://victim.example/story'>", "https://www.example.org/news/story.html?id=7"),
        ("<link rel='canonical' href='https://sub.example.org/story'>", "https://www.example.org/news/story.html?id=7"),
        ("<link rel='canonical' href='javascript:alert(1)'>", "https://www.example.org/news/story.html?id=7"),
    ],
)
def test_a_page_may_name_another_address_of_its_own_site_only(head, document_id):
    row = found(head)
    assert row["document_id"] == document_id
    assert row["site"] == "example.org"


def test_a_saved_page_is_known_by_the_address_that_it_names():
    row = found("<link rel='canonical' href='https://www.example.org/story'>", url="file:///story.html")
    assert (row["document_id"], row["site"]) == ("https://www.example.org/story", "example.org")
    assert found(url="file:///story.html")["document_id"] == "file:///story.html"


@pytest.mark.parametrize(
    ("html", "language"),
    [
        ("<html lang='de'>", "de"),
        ("<html lang='EN-gb'>", "en"),
        ("<html lang=' pt-BR '>", "pt"),
        ("<html lang=''>", "en"),
        ("<html>", "en"),
        pytest.param("<html lang='de_DE'>", "de"),
    ],
)
def test_the_language_is_the_declared_one_or_that_of_the_characters(html, language):
    assert found(html=html)["language"] == language


def test_the_language_of_a_text():
    assert detect_language(FRENCH) == "fr"
    assert detect_language("Der Bürgermeister eröffnete gestern die neue Brücke über den Fluss.") == "de"
    assert detect_language(" ") is None


def test_pictures_are_told_once_with_their_full_address():
    images = "<img src='/a.png'><img src='b.png'><img src='/a.png'><img src='data:image/png;base64,AA'><img>"
    row = found("<meta property='og:image' content='https://cdn.example/og.jpg'>", body=f"<p>{STORY}</p>{images}" * 4)
    assert row["image_urls"] == [
        "https://cdn.example/og.jpg",
        "https://www.example.org/a.png",
        "https://www.example.org/news/b.png",
    ]
    many = "".join(f"<img src='/{i}.png'>" for i in range(3 * MAX_IMAGES))
    assert len(found(body=f"<p>{STORY}</p>" * 4 + many)["image_urls"]) == MAX_IMAGES


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (None, "not_html"),
        (b"", "not_html"),
        (b"\0" * 500, "not_html"),
        (b"%PDF-1.7 " + bytes(range(256)) * 8, "not_html"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "not_html"),
        (b"plain words and nothing else", "not_html"),
        (b'{"json": true}', "not_html"),
        (b"<html></html>", "no_article_text"),
        (b"<html><body><script>var a = 1;</script></body></html>", "no_article_text"),
    ],
)
def test_what_holds_no_article_names_its_rule_and_keeps_its_address(body, failure):
    row = article(URL, body)
    assert row["failure"] == failure
    assert row["document_id"] == "https://www.example.org/news/story.html?id=7"
    assert row["site"] == "example.org"
    assert {name for name, value in row.items() if value is not None} == {"document_id", "site", "failure"}


@pytest.mark.parametrize("tag", ["div", "b", "table"])
def test_deep_nesting_never_crashes(tag):
    assert article(URL, b"<html><body>" + f"<{tag}>".encode() * 20_000 + STORY.encode())["failure"] == "no_article_text"


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"<html><body>", page().encode()[:-200]]))
@example(b"<p>" * 100 + b"\xff\xfe</p></html><html><body>\xc3", b"<html><body>")
@example(b"<!ENTITY a 'b'>&a;&#xD800;&#0;", b"<!DOCTYPE html [")
def test_any_bytes_make_a_row(content, before):
    row = article(URL, before + content)
    assert (row["failure"] is None) == (row["text"] is not None)
    pa.RecordBatch.from_pylist([row], schema=ARTICLE)


@pytest.mark.parametrize("bad", HOSTILE)
def test_a_hostile_address_never_crashes(bad):
    row = article(bad, page().encode())
    assert STORY in row["text"] or row["failure"]


@pytest.mark.parametrize("bad", HOSTILE)
def test_a_hostile_canonical_address_is_passed_over(bad):
    row = found(f"<link rel='canonical' href='{bad}'>")
    assert row["document_id"] == "https://www.example.org/news/story.html?id=7"
    assert STORY in row["text"]


@pytest.mark.parametrize("bad", ["http://[bad/", "http://a℀b/"])
def test_a_hostile_address_of_a_picture_is_passed_over(bad):
    row = found(body=f"<p>{STORY}</p>" * 4 + f"<img src='{bad}'><img src='/good.png'>")
    assert row["image_urls"] == ["https://www.example.org/good.png"]
    assert STORY in row["text"]


def test_a_saved_page_cannot_name_what_is_no_address_of_a_page():
    row = found("<link rel='canonical' href='javascript:alert(1)'>", url="file:///story.html")
    assert row["document_id"] == "file:///story.html"


@pytest.mark.slow
def test_five_megabytes_are_read_up_to_the_limit():
    paragraphs = "".join(f"<p>Paragraph {i}: {STORY}</p>" for i in range(2_000))
    html = page(f"<script>{'var a = 1; ' * 450_000}</script>", paragraphs)
    row = article(URL, html.encode())
    assert len(html) > 5_000_000
    assert row["failure"] is None
    assert MAX_TEXT * 0.99 < len(row["text"]) <= MAX_TEXT


def test_articles_gives_a_row_for_each_row_in_order():
    bodies = [page().encode(), b"", None, page().replace("river", "lake").encode()]
    urls = [f"https://example.org/{i}" for i in range(4)]
    batch = pa.RecordBatch.from_pydict({"url": urls, "body": pa.array(bodies, pa.large_binary())})
    whole, *rest = articles([batch])
    assert not rest
    assert whole.schema.equals(ARTICLE)
    assert whole["document_id"].to_pylist() == urls
    assert whole["failure"].to_pylist() == [None, "not_html", "not_html", None]
    assert pa.Table.from_batches(articles([batch.slice(0, 1), batch.slice(1)])) == pa.Table.from_batches([whole])


def corpus(name, truth):
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    described = json.loads((folder / truth).read_text(encoding="utf-8"))
    bodies = {path.name.removesuffix(".html.gz"): path for path in sorted((folder / "html").glob("*.html.gz"))}
    return [(described[name], gzip.decompress(path.read_bytes())) for name, path in bodies.items()]


def words(text):
    return Counter(re.findall(r"\w+", normalise(text).lower()))


@lru_cache(maxsize=1)
def extracted_articles():
    pages = corpus("webpages_article", "ground-truth.json")
    return [(truth["articleBody"], article(truth["url"].strip(), body)) for truth, body in pages]


@pytest.mark.slow
def test_real_articles_are_extracted_word_for_word():
    rows = extracted_articles()
    assert len(rows) == 65
    assert all(row["failure"] is None for _, row in rows)
    scores = []
    for truth, row in rows:
        wanted, given_words = words(truth), words(row["text"])
        shared = (wanted & given_words).total()
        scores.append(2 * shared / (wanted.total() + given_words.total()))
    assert sum(scores) / len(scores) >= 0.93


@pytest.mark.slow
def test_real_pages_keep_what_is_wanted_and_leave_out_what_is_not():
    pages = corpus("webpages_segments", "segments.json")
    rows = [(truth, article(truth["url"].strip(), body)) for truth, body in pages]
    assert len(rows) == 30
    assert all(row["failure"] is None for _, row in rows)
    flat = [(truth, " ".join(f"{row['title']} {row['text']}".split())) for truth, row in rows]
    kept = [normalise(part) in text for truth, text in flat for part in truth["with"]]
    left = [normalise(part) in text for truth, text in flat for part in truth["without"]]
    assert sum(kept) / len(kept) >= 0.85
    assert sum(left) / len(left) <= 0.15
