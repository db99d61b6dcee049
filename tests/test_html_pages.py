"""Every page that we write: nothing on it runs but its own scripts, nothing is fetched, and it still draws."""

import re
import shutil
from datetime import UTC, date, datetime

import polars as pl
import pytest
from markupsafe import Markup

from governance.catalog import Table
from governance.html import POLICY, html_page
from governance.quality import validate
from platform_assets.reports.page import Chart, Column, Grid, Headline, Page, Section, render
from platform_assets.reports.plots import bars, heatmap, heatmap_layout
from resources.settings import PROJECT

CHROMIUM = shutil.which("chromium")
HOSTILE = (
    '<img src=x onerror="window.ran=1">',
    "</script><script>window.ran=1</script>",
    "<svg onload=window.ran=1>",
    '"><iframe srcdoc="<script>parent.ran=1</script>"></iframe>',
    "{{ 7 * 7 }} $x <b>bold</b>",
    "https://a.example/<img src=x onerror=window.ran=1>",
)
RULES = {
    "an_address": {"expect": "column_values_to_match_regex", "column": "url", "regex": "^ftp:<b>"},
    "known": {"expect": "column_values_to_be_in_set", "column": "url", "value_set": ["<i>"]},
}
TABLE = Table(name="silver/x", owner="t", grain="one", columns={}, key=("id",), rules=RULES)


def data_docs() -> str:
    """Return the page of a validation that hostile values break."""
    shown = validate(
        pl.DataFrame({"id": [*HOSTILE], "url": [*HOSTILE]}),
        TABLE,
    ).page
    assert shown is not None
    return shown


def report() -> str:
    """Return a report whose every text is hostile."""
    said, *more = HOSTILE
    drawn = Chart(said, said, [bars(one, "var(--floor)", {"x": [*HOSTILE], "y": [1] * 6}) for one in HOSTILE])
    cells = Chart(more[1], "", [heatmap(HOSTILE, HOSTILE, [[1.0] * 6] * 6)], heatmap_layout(HOSTILE, HOSTILE))
    grid = Grid(said, said, [Column("a", said), Column("b", said, "chip")], [{"a": one, "b": one} for one in HOSTILE])
    page = Page(
        said, said, said, [Headline(said, said)], [Section(said, [drawn, cells, grid])],
        dict.fromkeys(HOSTILE, said), [date(2026, 11, 1)], {said: 1},
    )  # fmt: skip
    return render(page, datetime.now(UTC)).decode()


def slipped() -> str:
    """Return a page into which hostile values came without being escaped."""
    return html_page("Slipped", Markup("<p>drawn</p>" + "".join(HOSTILE)), "")


WRITTEN = {"data docs": data_docs, "report": report, "slipped": slipped}


@pytest.mark.parametrize("made", WRITTEN.values(), ids=WRITTEN)
def test_every_page_states_the_policy_before_all_else(made):
    text = made()
    assert text.startswith("<!DOCTYPE html>")
    policy = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert len(policy) == 1
    assert policy[0].startswith(f"{POLICY}; script-src '")
    assert "default-src 'none'" in policy[0]
    assert "unsafe" not in policy[0].partition("script-src")[2]
    assert text.index("Content-Security-Policy") < min(text.index(tag) for tag in ("<title>", "<style>", "<body>"))


@pytest.mark.parametrize("made", [data_docs, report])
def test_what_a_page_shows_is_escaped(made):
    body = re.sub(r"<script.*?</script>", "", made().partition("<body>")[2], flags=re.DOTALL)
    for tag in ("<img", "<iframe", "<b>bold", "<i>", "onload=window.ran=1>", "<svg onload"):
        assert tag not in body
    assert "&lt;img src=x onerror=" in body


def test_pages_are_made_in_one_place():
    made = "<html lang"
    folders = ("signals", "governance", "resources", "platform_assets", "sensors", "serving")
    files = [path for folder in folders for end in ("py", "html") for path in (PROJECT / folder).rglob(f"*.{end}")]
    found = {str(path.relative_to(PROJECT)) for path in files if made in path.read_text(encoding="utf-8")}
    assert found == {"governance/html.py"}
    others = re.compile(r"<!doctype html>|\.render\.view|get_plotlyjs\(|to_html\(", re.IGNORECASE)
    found = {str(path.relative_to(PROJECT)) for path in files if others.search(path.read_text(encoding="utf-8"))}
    assert found == {"governance/html.py", "platform_assets/reports/page.py"}


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a page in a browser, and returns it with what the browser complained of."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def show(text):
            faults, asked = [], []
            page = browser.new_page()
            page.on("pageerror", lambda fault: faults.append(str(fault)))
            page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
            page.on("request", lambda request: asked.append(request.url))
            (tmp_path / "page.html").write_text(text, encoding="utf-8")
            page.goto((tmp_path / "page.html").as_uri(), wait_until="load")
            page.wait_for_timeout(500)
            assert [url for url in asked if not url.startswith(("file:///", "data:", "blob:", "about:"))] == []
            return page, faults

        yield show
        browser.close()


@pytest.mark.parametrize("made", [data_docs, report])
def test_nothing_of_a_page_but_its_own_scripts_runs_and_it_is_drawn(opened, made):
    page, faults = opened(made())
    assert page.evaluate("window.ran") is None
    assert faults == []
    assert HOSTILE[0] in page.inner_text("body")
    if made is report:
        assert page.locator(".chart .main-svg").count() >= 2
        assert page.locator(".chart .bars path").count() == len(HOSTILE) ** 2


def test_what_was_not_escaped_does_not_run_either(opened):
    page, faults = opened(slipped())
    assert page.evaluate("window.ran") is None
    assert "drawn" in page.inner_text("body")
    assert any("Content Security Policy" in fault for fault in faults)
