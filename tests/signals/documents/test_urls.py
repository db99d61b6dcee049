import random
import re
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.documents.urls import MAX_LENGTH, TRACKING, UNRESERVED, canonical_url, hostname, joined

HOSTS = ["example.org", "news.example.co.uk", "münchen.example", "例え.テスト", "192.0.2.7", "[2001:db8::1]"]
PIECES = ["a", "B~b", "café", "x%2Fy", "日本", "a.b", "100%25", "a:b@c", "(1)", ";v=1"]
ADDRESSES = st.builds(
    lambda scheme, host, port, path, query: f"{scheme}://{host}{port}/{'/'.join(path)}{'?' if query else ''}{query}",
    st.sampled_from(["http", "https"]),
    st.sampled_from(HOSTS),
    st.sampled_from(["", ":8080", ":8443"]),
    st.lists(st.sampled_from(PIECES), max_size=3),
    st.lists(st.sampled_from(["id=7", "q=café", "b=2&a=1", "flag", "u=https://a.example/"]), max_size=2).map("&".join),
)


@st.composite
def respelt(draw):
    """Return an address, and another spelling of it."""
    url = draw(ADDRESSES)
    scheme, host, port, path, query = re.fullmatch(r"(\w+)://(\[.*?\]|[^:/]+)(:\d+)?(/[^?]*)(\?.*)?", url).groups()
    coin = random.Random(draw(st.integers(0, 1_000)))

    def spelt(part):
        """Encode what needs no encoding, and write the digits of what does in either case."""
        signs = re.findall("%..|.", part)
        return "".join(
            coin.choice([str.upper, str.lower])(sign)
            if len(sign) == 3
            else coin.choice([sign, quote(sign, safe=""), f"%{ord(sign):02x}" if sign in UNRESERVED else sign])
            if sign in UNRESERVED or ord(sign) > 127
            else sign
            for sign in signs
        )

    default = {"http": ":80", "https": ":443"}[scheme]
    dots = draw(st.sampled_from(["", "/.", "/x/..", "/%2e", "/x/%2E."]))
    if not host.startswith("["):
        host += draw(st.sampled_from(["", "."]))
    tracked = draw(st.sampled_from(["", "utm_source=x", "fbclid=Iw&UTM_Medium=y", "gclid=1&gbraid=2", "&"]))
    query = "&".join(part for part in (spelt((query or "")[1:]), tracked) if part)
    return url, "".join(
        [
            draw(st.sampled_from([" ", ""])),
            draw(st.sampled_from([scheme, scheme.upper()])),
            "://",
            draw(st.sampled_from(["", "user@", "user:secret@"])),
            draw(st.sampled_from([host, host.upper()])),
            port or draw(st.sampled_from(["", ":", default])),
            dots,
            spelt(path),
            draw(st.sampled_from(["?", ""])) if not query else f"?{query}",
            draw(st.sampled_from(["", "#", "#part"])),
        ]
    )


@settings(max_examples=400)
@given(respelt())
def test_all_spellings_of_an_address_are_one(pair):
    url, other = pair
    assert canonical_url(other) == canonical_url(url)
    assert hostname(other) == hostname(url)


@settings(max_examples=300)
@given(st.text() | ADDRESSES | st.text("htps:/.?#&=%25e@[]\\xn- \ud800é").map("https://".__add__))
@example("")
@example("file:///a b.html")
@example("mailto:bob@example.org")
@example("HTTP://user:pw@WWW.Example.ORG:80#x")
@example("https://h/%%32e%%32e/a")
@example("https://0x7f../")
@example("https://\ud83d/")
def test_an_address_is_its_own_address_and_of_the_same_site(url):
    short = canonical_url(url)
    assert canonical_url(short) == short
    assert hostname(short) == hostname(url)
    if hostname(url):
        assert re.fullmatch(r"https?://[!-~]+", short)
        assert not re.search(r"#|://[^/]*@", short)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://WWW.Example.ORG", "http://www.example.org/"),
        ("http://example.org:80/a#b", "http://example.org/a"),
        ("https://example.org:443/a?b=C", "https://example.org/a?b=C"),
        ("https://example.org:80/a", "https://example.org:80/a"),
        ("http://example.org:443/", "http://example.org:443/"),
        ("https://example.org:8443/A", "https://example.org:8443/A"),
        (" https://example.org/a ", "https://example.org/a"),
        ("https://example.org/a/", "https://example.org/a/"),
        ("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ("https://bücher.example./ü?q=ä", "https://xn--bcher-kva.example/%C3%BC?q=%C3%A4"),
        ("https://s17.example/%7Eanna/caf%c3%a9", "https://s17.example/~anna/caf%C3%A9"),
        ("https://example.org/a/./b/%2e%2E/c", "https://example.org/a/c"),
        ("https://example.org/a%2fb", "https://example.org/a%2Fb"),
        ("https://example.org/?a[]=1", "https://example.org/?a%5B%5D=1"),
        ("https://example.org/?b=2&a=1&b=3", "https://example.org/?b=2&a=1&b=3"),
        ("https://example.org/a?utm_source=x&id=7&gclid=y", "https://example.org/a?id=7"),
        ("https://example.org/a?UTM_ID=x", "https://example.org/a"),
        ("https://example.org/a?fbclid=x#top", "https://example.org/a"),
        ("https://example.org/a?my_utm_source=x&gclids=1", "https://example.org/a?my_utm_source=x&gclids=1"),
        ("https://example.org/a?", "https://example.org/a"),
        ("https://user:secret@example.org/", "https://example.org/"),
    ],
)
def test_links_to_one_page_share_an_address(url, expected):
    assert canonical_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "file:///a/b c.html",
        "s3://Bucket/a/../B~",
        "message-1",
        "http://h:99999/",
        "http://h:port/",
        "http://[::1/",
        "http://a b/",
        "http://a../",
        "http://./",
        "https://\ud800.example/",
        "https://example.org/" + "a" * MAX_LENGTH,
        "https://" + "é" * 70_000,
    ],
)
def test_what_is_no_web_address_is_only_stripped(url):
    assert canonical_url(f" {url}\n") == url
    assert hostname(url) == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://WWW.Example.org/a", "example.org"),
        ("https://www.example.org./", "example.org"),
        ("https://news.example.org:8080/", "news.example.org"),
        ("https://wwwexample.org/", "wwwexample.org"),
        ("https://Bücher.example/", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("http://[2001:DB8::1]/", "2001:db8::1"),
        ("file:///a", ""),
        ("", ""),
    ],
)
def test_a_site_is_a_host_without_www(url, expected):
    assert hostname(url) == expected


def test_a_reference_is_joined_to_the_page_that_it_stands_on():
    assert joined("https://example.org/a/b", "../c.png") == "https://example.org/c.png"
    assert joined("https://example.org/a/b", "//cdn.example/c.png") == "https://cdn.example/c.png"
    assert joined("https://example.org/", "http://[") == ""


def test_parameters_that_only_track_are_known_by_whole_names():
    for name in ("utm_source", "utm_x", "fbclid", "gclid", "dclid", "msclkid", "ScCid", "sccid", "_ga"):
        assert TRACKING.fullmatch(name), name
    for name in ("id", "page", "q", "_gallery", "ref", "utm", "x_utm_source", "clid"):
        assert not TRACKING.fullmatch(name), name


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", ["xn--a9b8", "é", "é.", "%2e/", "../", "&", "utm_a=1&", "%", "["])
def test_no_address_takes_long(unit):
    for start in ("https://", "https://example.org/", "https://example.org/?"):
        for length in (MAX_LENGTH, 4_000_000):
            assert canonical_url(start + unit * ((length - len(start)) // len(unit)))
