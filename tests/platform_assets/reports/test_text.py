from platform_assets.reports.text import count, dollars, join_words, percent, plural


def test_figures_read_as_a_person_writes_them():
    assert (count(1234.4), dollars(1234.5), dollars(-2)) == ("1,234", "$1,234.50", "−$2.00")
    assert [percent(x).replace("\u00a0", " ") for x in (0.1234, 0.004, 0, 1)] == [
        "12.3 %",
        "0.40 %",
        "0.0 %",
        "100.0 %",
    ]
    assert (plural(1, "page"), plural(0, "page")) == ("1 page", "0 pages")
    assert join_words(["a", None, "c"]) == "a, unknown and c"
