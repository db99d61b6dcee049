import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.documents.addresses import PAGE_PARAMETERS, addresses, site_of
from signals.documents.urls import canonical_url

PAGE = "https://www.news.example/world/flood?id=7&page=2"


@pytest.mark.parametrize(
    "form",
    [
        "http://news.example/world/flood?page=2&id=7",
        "https://m.news.example/world/flood?id=7&page=2",
        "https://news.example/world/flood/?id=7&page=2&utm_source=x&gclid=1",
        "https://amp.news.example/world/flood?id=7&page=2",
        "https://www.news.example/world/flood/amp?id=7&page=2",
        "https://www.news.example/amp/world/flood?id=7&page=2",
        "https://www.news.example/world/flood.amp.html?id=7&page=2",
        "https://www.news.example/world/flood/index.html?id=7&page=2",
        "https://www.news.example/world/flood?id=7&page=2&amp=1&outputType=amp",
        "https://www-news-example.cdn.ampproject.org/v/s/www.news.example/world/flood?id=7&page=2&amp_js_v=0.1&usqp=mq",
        "https://www.google.com/amp/s/www.news.example/world/flood?id=7&page=2",
    ],
)
def test_forms_of_one_page_share_their_folded_address(form):
    assert addresses(form)[-1] == addresses(PAGE)[-1]


@pytest.mark.parametrize(
    "other",
    [
        "https://www.news.example/world/flood?id=8&page=2",
        "https://www.news.example/world/flood",
        "https://www.news.example/world/floods?id=7&page=2",
        "https://sport.news.example/world/flood?id=7&page=2",
        "https://news.example:8443/world/flood?id=7&page=2",
        "https://news.example.evil.example/world/flood?id=7&page=2",
        "https://www.news.example/World/flood?id=7&page=2",
    ],
)
def test_other_pages_do_not(other):
    assert addresses(other)[-1] != addresses(PAGE)[-1]


def test_where_a_sites_policy_says_which_parameters_name_a_page_no_other_does():
    video = addresses("https://www.youtube.com/watch?v=abc")[-1]
    assert addresses("https://m.youtube.com/watch?t=9&v=abc&feature=share")[-1] == video
    assert addresses("https://www.youtube.com/watch?v=abd")[-1] != video
    assert addresses("https://edition.cnn.com/a?ref=home")[-1] == addresses("https://edition.cnn.com/a")[-1]


def test_the_policy_names_sites_once_in_order():
    assert list(PAGE_PARAMETERS) == sorted(PAGE_PARAMETERS)


@pytest.mark.parametrize("host", ["m.co.uk", "m.example", "10.0.0.1", "[::1]", "localhost", "www.example:81"])
def test_a_site_is_never_without_its_root(host):
    assert site_of(f"https://{host}/x").split(":")[0] in host


@given(st.one_of(st.text(), st.from_regex(r"https?://[a-z.]{1,20}/[ -~]{0,40}", fullmatch=True)))
def test_any_text_has_addresses_the_canonical_one_first_and_folding_is_stable(text):
    own, *folded = addresses(text)
    assert own == canonical_url(text)
    for address in folded:
        assert address.startswith("//")
        assert addresses(f"https:{address}")[-1] == address
    assert (site_of(text) != "") == bool(folded)
