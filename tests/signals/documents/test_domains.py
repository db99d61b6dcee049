import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.documents import domains
from signals.documents.domains import domain, domains_of


@given(st.text(max_size=30))
def test_a_domain_is_in_its_normal_form_already(text):
    assert domain(domain(text)) == domain(text)


def test_domains_are_compared_in_one_form():
    same = [
        "a.example",
        " A.Example. ",
        "www.a.example",
        "http://www.a.example/x?y",
        "a.example:443",
        "\ufeffa.example",
    ]
    assert {domain(text) for text in same} == {"a.example"}
    assert {domain(text) for text in (None, "", "a", "localhost", "a b.example", "-", "a..b")} == {None}
    assert domain("www.com") == "www.com"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("www.a.b.example.co.uk", ["example.co.uk", "b.example.co.uk", "a.b.example.co.uk"]),
        ("a.example", ["a.example"]),
        ("me.github.io", ["me.github.io"]),
        ("co.uk", ["co.uk"]),
        ("a.b.nowhere", ["b.nowhere", "a.b.nowhere"]),
        ("192.0.2.7", ["192.0.2.7"]),
        ("localhost", []),
        ("", []),
    ],
)
def test_a_host_lies_in_its_root_domain_and_what_is_below(host, expected):
    assert domains_of(host) == expected


def test_no_list_of_suffixes_is_fetched_or_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TLDEXTRACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.socket", None)
    domains._packaged_suffixes.cache_clear()
    domains_of.cache_clear()
    assert domains_of("a.d.co.uk") == ["d.co.uk", "a.d.co.uk"]
    assert list(tmp_path.iterdir()) == []
