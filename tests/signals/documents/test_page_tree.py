import pytest

from signals.documents.page_tree import MAX_ELEMENTS, MAX_TEXT
from tests.support.pages import STORY, found, page, read

NOTICE = (
    "We use cookies and similar technologies to run this website and to help us understand how you use it. "
    "By continuing you accept our privacy policy."
)


@pytest.mark.parametrize("tag", ["div", "b", "font", "section", "blockquote", "table><tr><td", "ul><li", "span"])
@pytest.mark.parametrize("depth", [90, 270, 900])
def test_a_text_is_read_whole_however_deep_it_lies(tag, depth):
    nested = "".join(f"<{tag}> Level {level} of the mill." for level in range(0, depth, tag.count(">") + 1))
    row = found(body=f"<p>{STORY}</p>{nested}<p>At last the water fell.</p>")
    assert row["failure"] is None
    flat = " ".join(row["text"].split())
    assert STORY in flat
    assert all(f"Level {level} of the mill." in flat for level in range(0, depth, tag.count(">") + 1))
    assert "At last the water fell." in flat


@pytest.mark.parametrize("tag", ["div", "b", "table", "nav"])
def test_what_nests_deeper_than_can_be_read_is_named(tag):
    row = read(b"<html><body>" + f"<{tag}>".encode() * 20_000 + STORY.encode())
    assert row["failure"] == "nested_too_deep"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("breaks", "<br>" * 400_000),
        ("unclosed", "<div>" * 1_000_000),
        ("siblings", "<h2>a</h2>" * 20_000),
        ("groups", ("<ul>" + "<li>a" * 2_000 + "</ul>") * 20),
        ("attributes", "<p " + " ".join(f"a{number}" for number in range(300_000)) + ">"),
    ],
)
# Without the budget it takes minutes.
@pytest.mark.timeout(40)
def test_a_page_over_its_budget_is_named(name, body):
    html = page(body=f"<p>{STORY}</p>{body}").encode()
    assert read(html)["failure"] == "too_many_elements", name


@pytest.mark.parametrize(
    ("name", "head", "body"),
    [
        ("blanks", "", " \n" * 2_000_000),
        ("long title", f"<title>{' ' * 300_000}- a</title>", ""),
        ("long attribute", "", f"<p class='{'comment content ' * 200_000}'>x</p>"),
        ("linked data", "<script type='application/ld+json'>" + '"@type":[' * 100_000 + "</script>", ""),
        ("nested data", "<script type='application/ld+json'>" + "[" * 90_000 + "</script>", ""),
        ("comments", "", "<!-- a -->" * 50_000),
    ],
)
# Without the budget it takes minutes.
@pytest.mark.timeout(40)
def test_a_page_within_its_budget_is_read(name, head, body):
    html = page(head, f"<p>{STORY}</p>{body}<p>The water fell at last, said the mayor of the town.</p>").encode()
    row = read(html)
    assert "The water fell at last" in row["text"], name


def test_the_budget_of_elements_is_far_beyond_real_pages():
    row = found(body=f"<p>{STORY}</p>" + "<section><p>a <b>b</b></p></section>" * (MAX_ELEMENTS // 15))
    assert row["failure"] is None


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>{}</p>",
        "<div hidden=''><p>{}</p></div>",
        "<section hidden='until-found'><p>{}</p></section>",
        "<p style='display:none'>{}</p>",
        "<p style='color: red; DISPLAY : none !important'>{}</p>",
        "<p style='visibility: hidden'>{}</p>",
        "<template><p>{}</p></template>",
        "<noscript><p>{}</p></noscript>",
        "<dialog><p>{}</p></dialog>",
        "<script type='text/x-template'><p>{}</p></script>",
    ],
)
def test_what_a_browser_never_shows_is_no_text(hidden):
    spam = "Buy cheap pills and click now to claim the prize that waits for you in the casino tonight."
    row = found(body=f"<p>{STORY}</p>{hidden.format(spam)}<p>The water fell at last.</p>")
    assert STORY in row["text"]
    assert "The water fell at last." in row["text"]
    assert "pills" not in row["text"]


@pytest.mark.parametrize(
    "html",
    [
        "<div class='top'><p>{notice}</p></div><main><aside class='x'><h1>Flood</h1><p>{story}</p></aside></main>",
        "<main><div><h1>Flood</h1><p>{story}</p></div></main><div id='x'><p>{notice}</p><button>OK</button></div>",
        "<section><p>{notice}</p></section><form><h1>Flood</h1><div><p>{story}</p></div></form>",
        "<p>{notice}</p><div><h1>Flood</h1><p>{story}</p></div>",
        "<article><p>{notice}</p><h1>Flood</h1><p>{story}</p></article>",
        "<main><div><h1>Flood</h1><p>{story}</p></div><div><p>{notice}</p></div></main>",
        "<div><h1>Cookie settings</h1><p>{notice}</p></div><main><h2>Flood</h2><p>{story}</p></main>",
        "<div><div><h2>Your privacy</h2><p>{notice}</p></div><div><h1>Flood</h1><p>{story}</p></div></div>",
    ],
)
def test_the_article_is_read_and_not_the_notice(html):
    story = (
        f"{STORY}</p><p>Nobody was hurt, and the school of the village opens again on Monday, she said in the evening."
    )
    row = read(f"<html><head><title>Flood</title></head><body>{html.format(notice=NOTICE, story=story)}".encode())
    assert STORY in row["text"]
    assert "Nobody was hurt" in row["text"]
    assert "similar technologies" not in row["text"]
    assert row["title"] == "Flood"


def test_an_article_about_cookies_is_an_article():
    text = (
        "The ministers agreed that websites must ask before they set cookies, and that no consent is given by silence."
    )
    for body in (f"<article><h1>Cookies</h1><p>{text}</p></article>", f"<div><h1>Cookies</h1><p>{text}</p></div>"):
        row = read(f"<html><head><title>Cookies</title></head><body>{body}<div>Other news</div>".encode())
        assert text in row["text"]


@pytest.mark.parametrize(("paragraphs", "failure"), [(1_000, None), (2_000, "text_too_long")])
def test_a_text_is_read_whole_or_named_too_long(paragraphs, failure):
    body = "".join(f"<p>Paragraph {i}: {STORY}</p>" for i in range(paragraphs))
    row = read(page(f"<script>{'var a = 1; ' * 450_000}</script>", body).encode())
    assert row["failure"] == failure
    assert failure or f"Paragraph {paragraphs - 1}:" in row["text"]
    assert failure or MAX_TEXT / 2 < len(row["text"]) <= MAX_TEXT
