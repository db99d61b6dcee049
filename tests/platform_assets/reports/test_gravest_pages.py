import re

from platform_assets.reports.gravest_pages import gravest, listing
from platform_assets.reports.page import Page, Section, render
from tests.support.reports import NOW, a_page, table, without_plotly


def test_what_is_no_web_address_is_no_link():
    worst = table("gold/contextual_signals", a_page("javascript:alert(1)"), a_page("https://a.example/?q='\"><b>"))
    answers = table("silver/decisions").select("decision_id", "tenant_id", "document_id", "label", "decided_at")
    page = Page("t", "p", "f", [], [Section("s", [listing(gravest(worst), answers)])], {}, [], {})
    rest = without_plotly(render(page, NOW).decode())
    assert re.findall(r'<a href="([^"]*)"', rest) == ["https://a.example/?q=&#39;&#34;&gt;&lt;b&gt;"]


def test_the_gravest_pages_are_shown_with_the_words_that_spoke_for_their_threat():
    evidence = [
        {"task": "iab_category", "label": "386", "words": ["vote"]},
        {"task": "threat", "label": "crime", "words": ["fraud", "court"]},
    ]
    worst = gravest(table("gold/contextual_signals", a_page(evidence=evidence), a_page("https://b.example/")))
    answers = table("silver/decisions").select("decision_id", "tenant_id", "document_id", "label", "decided_at")
    shown = {row["url"]: row["words"] for row in listing(worst, answers).rows}
    assert shown == {"https://news.example/a": "fraud, court", "https://b.example/": ""}
