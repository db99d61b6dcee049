import gzip
import json
import re
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.documents.pages import ARTICLE, MAX_IMAGES, Fetch, article, articles
from signals.documents.text import content_hash, document_text, normalise
from signals.documents.urls import hostname
from tests.support import SHARED
from tests.support.pages import STORY, URL, found, page, read

DATA = SHARED / "data"
FRENCH = "Le café était très bon à Genève, où les élèves étudiaient près du château pendant l'été."
QUOTES = "“It’s costly” — the price is 5 € said the seller at the market in the old town square."
HOSTILE = ["http://[bad/", "http://example.org:port/", "http://example.org:99999/", "http://a℀b/"]


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
    row = read(page(meta, f"<p>{text}</p>" * 5).encode(charset))
    assert normalise(text) in row["text"]


@pytest.mark.parametrize("said", [{"content_type": "text/html; charset=EUC-JP"}, {"charset": "euc-jp"}])
def test_bytes_are_read_in_the_charset_that_http_states(said):
    text = "市議会は火曜日、古い石橋を修理することを決定した。工事は来月始まり、半年ほどかかる見込みだ。"
    row = read(page(body=f"<p>{text}</p>").encode("euc-jp"), **said)
    assert text in row["text"]
    assert row["language"] == "ja"


def test_text_delivered_as_utf8_is_read_as_such_whatever_its_meta_says():
    row = read(page("<meta charset='iso-8859-1'>", f"<p>{FRENCH}</p>" * 5).encode())
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
        ("<html lang='EN-gb'>", "en"),
        ("<html lang=' en_US '>", "en"),
        ("<html lang=''>", "en"),
        ("<html>", "en"),
        ("<html lang='de'>", "en"),
        ("<html lang='x-default'>", "en"),
        ("<html lang='{{ lang }}'>", "en"),
        ("<html lang='english'>", "en"),
    ],
)
def test_the_language_is_that_of_the_text_where_it_is_plain(html, language):
    assert found(html=html)["language"] == language


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
        (page(body="").encode(), "no_article_text"),
        (b"<html><body><script>var a = 1;</script></body></html>", "no_article_text"),
    ],
)
def test_what_holds_no_article_names_its_rule_and_keeps_its_address(body, failure):
    row = read(body)
    assert row["failure"] == failure
    assert row["document_id"] == "https://www.example.org/news/story.html?id=7"
    assert row["site"] == "example.org"
    assert {name for name, value in row.items() if value is not None} == {"document_id", "site", "failure"}


@settings(max_examples=30)
@given(st.binary(max_size=300), st.sampled_from([b"", b"<html><body>", page().encode()[:-200]]))
@example(b"<p>" * 100 + b"\xff\xfe</p></html><html><body>\xc3", b"<html><body>")
@example(b"<!ENTITY a 'b'>&a;&#xD800;&#0;", b"<!DOCTYPE html [")
def test_any_bytes_make_a_row(content, before):
    row = read(before + content)
    assert (row["failure"] is None) == (row["text"] is not None)
    pa.RecordBatch.from_pylist([row], schema=ARTICLE)


NAMES = [
    "@context",
    "@type",
    "@graph",
    "headline",
    "name",
    "datePublished",
    "url",
    "mainEntity",
    "mainEntityOfPage",
    "@id",
]
NASTY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["NewsArticle", URL]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(NASTY)
@example({"@type": "NewsArticle", "headline": ["Flood at the mill", "Flood"]})
@example({"@type": "NewsArticle", "headline": {"@value": "Flood"}, "datePublished": [2026]})
@example({"@type": ["NewsArticle", 7, None], "headline": 7, "mainEntityOfPage": [{"@id": {}}, "http://[bad/"]})
@example({"@graph": {"@type": {"a": 1}, "datePublished": "9999-99-99T99:99:99+99:99"}})
@example("\ud800")
def test_whatever_linked_data_says_the_article_is_read(value):
    row = found(f"<script type='application/ld+json'>{json.dumps(value)}</script>")
    assert row["failure"] is None
    assert isinstance(row["title"], str)
    assert STORY in row["text"]
    pa.RecordBatch.from_pylist([row], schema=ARTICLE)


MARKUP = st.sampled_from(
    [
        *(
            "<p>",
            "</p>",
            "<div hidden>",
            "</div>",
            "<template>",
            "<table><td>",
            "<aside>",
            "<form>",
            "<h1>",
            "<noscript>",
        ),
        *("<base href='//['>", "<base href='/x/'>", "&#0;", "&#xD800;", "<![CDATA[", "<!--", "-->", "\0", "\u2028"),
        *('<html lang="\'">', "</html>", "<svg>", "<head>", "<body style='display:none'>", "<dialog>", STORY),
        "<link rel=canonical href='http://a\u2100b/'>",
        "<time itemprop=datePublished datetime='?'>",
        "<meta property='og:title' content='\ud7ff'>",
        "cookies accept",
    ]
)


@settings(max_examples=150)
@given(st.lists(MARKUP, max_size=25), st.sampled_from(["", "text/html", "text/html; charset=utf-16", "a/b/c", ";"]))
def test_whatever_markup_a_page_holds_it_makes_a_row(parts, content_type):
    row = article(Fetch(URL, html="<html>" + "".join(parts), content_type=content_type))
    assert (row["failure"] is None) == (row["text"] is not None)
    assert not (row["failure"] or "").startswith("unreadable")
    pa.RecordBatch.from_pylist([row], schema=ARTICLE)


@pytest.mark.parametrize("status", [0, 100, 301, 304, 404, 410, 429, 500, 503])
def test_an_answer_that_is_no_success_is_no_article(status):
    row = read(page().encode(), http_status=status, content_type="text/html")
    assert row["failure"] == f"http_status:{status}"
    assert row["document_id"] == "https://www.example.org/news/story.html?id=7"
    assert row["text"] is None


@pytest.mark.parametrize("status", [200, 203, None])
def test_a_success_is_an_article(status):
    assert read(page().encode(), http_status=status)["failure"] is None


@pytest.mark.parametrize(
    ("content_type", "failure"),
    [
        (None, None),
        ("", None),
        ("text/html", None),
        (" Text/HTML ;charset=utf-8", None),
        ("application/xhtml+xml", None),
        ("application/octet-stream", None),
        ("text/plain; charset=utf-8", None),
        ("nonsense", None),
        ("application/json", "not_html"),
        ("application/javascript", "not_html"),
        ("application/rss+xml", "not_html"),
        ("application/pdf", "not_html"),
        ("text/css", "not_html"),
        ("image/svg+xml", "not_html"),
    ],
)
def test_the_media_type_decides_whether_there_is_a_page(content_type, failure):
    assert read(page().encode(), content_type=content_type)["failure"] == failure


INSIDE = json.dumps({"id": 7, "html": f"<p>{STORY}</p><p>{STORY}</p>", "related": [1, 2]})


@pytest.mark.parametrize("content_type", [None, "text/html", "text/plain", "application/octet-stream"])
@pytest.mark.parametrize(
    "body",
    [
        INSIDE,
        f"[{INSIDE}]",
        f"callback({INSIDE})",
        f"<?xml version='1.0'?>\n<!-- a --><rss version='2.0'><item><description>{STORY}</description></item></rss>",
        f"<feed xmlns='http://www.w3.org/2005/Atom'><entry><summary>{STORY}</summary></entry></feed>",
        "User-agent: *\nDisallow: /search\nSitemap: https://example.org/sitemap.xml\n",
        "body { color: red } p > a { color: blue }",
    ],
)
def test_what_is_no_page_is_none_whatever_it_is_called(body, content_type):
    assert read(body.encode(), content_type=content_type)["failure"] == "not_html"


@pytest.mark.parametrize(
    ("base", "picture"),
    [
        ("<base href='https://cdn.example/x/'>", "https://cdn.example/x/a.png"),
        ("<base href='/html/4711v2/'>", "https://www.example.org/html/4711v2/a.png"),
        ("<base target='_blank'>", "https://www.example.org/news/a.png"),
        ("<base href=''>", "https://www.example.org/news/a.png"),
        ("<base href='javascript:1'>", "https://www.example.org/news/a.png"),
        ("<base href='http://[bad/'>", "https://www.example.org/news/a.png"),
        ("<base href='/one/'><base href='/two/'>", "https://www.example.org/one/a.png"),
    ],
)
def test_references_resolve_against_the_base_of_the_page(base, picture):
    assert found(base, body=f"<p>{STORY}</p><img src='a.png'>" * 3)["image_urls"] == [picture]


def test_a_canonical_link_resolves_against_the_base_of_the_page():
    row = found("<base href='https://www.example.org/craft/'><link rel='canonical' href='prints'>")
    assert row["document_id"] == "https://www.example.org/craft/prints"


@pytest.mark.parametrize("root", ["/", "https://www.example.org/", "https://example.org", "/#top", "/index.html"])
@pytest.mark.parametrize("link", ["<link rel='canonical' href='{}'>", "<meta property='og:url' content='{}'>"])
def test_a_link_to_the_root_is_believed_from_the_root_only(root, link):
    assert found(link.format(root))["document_id"] == "https://www.example.org/news/story.html?id=7"
    for url in ("https://www.example.org/", "https://www.example.org/index.php", "https://www.example.org"):
        assert hostname(found(link.format(root), url)["document_id"]) == "example.org"
        assert "news" not in found(link.format(root), url)["document_id"]
    assert found(link.format("https://www.example.org/"), "file:///story.html")["document_id"] == "file:///story.html"


def test_the_first_link_of_the_head_that_can_be_the_page_is_its_canonical_one():
    head = "".join(
        f"<link rel='{rel}' href='{href}'>"
        for rel, href in (
            ("alternate", "/amp"),
            ("canonical", "https://other.example/story"),
            ("canonical", "/"),
            ("Canonical nofollow", "/story"),
            ("canonical", "/another"),
        )
    )
    assert found(head)["document_id"] == "https://www.example.org/story"
    body = f"<p>{STORY}</p>" * 3 + "<div><link rel='canonical' href='/video/1'></div>"
    assert found(body=body)["document_id"] == "https://www.example.org/news/story.html?id=7"


def test_what_stands_in_the_head_counts_where_markup_has_ended_the_head_early():
    row = found("<noscript><img src='/pixel.gif'></noscript><link rel='canonical' href='/story'>")
    assert row["document_id"] == "https://www.example.org/story"


def test_no_date_is_later_than_the_fetch():
    head = "<meta property='article:published_time' content='2026-11-20T09:00:00Z'>"
    told = [(19, None), (20, "2026-11-20"), (21, "2026-11-20")]
    for day, expected in told:
        moment = datetime(2026, 11, day, 12, tzinfo=UTC)
        assert read(page(head).encode(), fetched_at=moment)["published_on"] == expected


@pytest.mark.parametrize("bad", HOSTILE)
def test_a_hostile_address_never_crashes(bad):
    row = read(page().encode(), bad)
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


def test_an_article_that_is_known_is_known_by_all_that_decides_it():
    fetch = {"url": URL, "body": page().encode(), "http_status": 200, "content_type": "text/html", "charset": "utf-8"}
    fetch |= {"html": "<html>", "fetched_at": datetime(2026, 11, 20, tzinfo=UTC)}
    known = {Fetch(**fetch): article(Fetch(**fetch)) | {"title": "known"}}
    others = {"url": URL + "8", "body": b"", "http_status": 503, "content_type": "text/css", "charset": "x", "html": ""}
    others |= {"fetched_at": datetime(2026, 11, 21, tzinfo=UTC)}
    rows = [fetch] + [fetch | {name: other} for name, other in others.items()]
    (batch,) = articles([pa.RecordBatch.from_pylist(rows)], known)
    assert [title == "known" for title in batch["title"].to_pylist()] == [True] + [False] * len(others)


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
    return [(truth["articleBody"], read(body, truth["url"].strip())) for truth, body in pages]


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
    rows = [(truth, read(body, truth["url"].strip())) for truth, body in pages]
    assert len(rows) == 30
    assert all(row["failure"] is None for _, row in rows)
    flat = [(truth, " ".join(f"{row['title']} {row['text']}".split())) for truth, row in rows]
    kept = [normalise(part) in text for truth, text in flat for part in truth["with"]]
    left = [normalise(part) in text for truth, text in flat for part in truth["without"]]
    assert sum(kept) / len(kept) >= 0.85
    assert sum(left) / len(left) <= 0.15
