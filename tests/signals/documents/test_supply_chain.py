import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signals.documents.supply_chain import (
    RELATIONSHIPS,
    AdsTxt,
    SupplyChain,
    ads_txt,
    asked,
    authorised,
    sellers_json,
    with_authorisation,
)

NOON = datetime(2026, 11, 9, 12, tzinfo=UTC)


def said(body, read=ads_txt):
    """Return what a file declares: fields without those that are not given, or the rule that is broken."""
    return [
        one.broken if one.fields is None else {name: value for name, value in one.fields.items() if value is not None}
        for one in read(body)
    ]


def seller(exchange="x.example", seller_id="1", relationship="DIRECT", **more):
    named = {"exchange": exchange, "seller_id": seller_id, "relationship": relationship}
    return {"record": "seller", **named, **more}


def account(**fields):
    return json.dumps({"sellers": [fields]}).encode()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"x.example, 1, DIRECT", seller()),
        (b"x.example,1,direct", seller()),
        (b"  X.Example\t,\xc2\xa01 ,  Reseller  ", seller(relationship="RESELLER")),
        (b"\xe2\x80\x8bx.example, 1, DIRECT\xef\xbb\xbf", seller()),
        (b"x.example, 1, DIRECT, f08c", seller(certification_authority_id="f08c")),
        (b"x.example, 1, DIRECT # ours", seller()),
        (b"x.example, 1, DIRECT # caf\xe9", seller()),
        (b"x.example, 1, DIRECT, f08c;tier=gold", seller(certification_authority_id="f08c", other="tier=gold")),
        (b"x.example, 1, DIRECT, f08c, more", seller(certification_authority_id="f08c", other="more")),
        (b"https://www.x.example/, Pub-aB, DIRECT", seller(seller_id="Pub-aB")),
        (b"OwnerDomain = a.example", {"record": "variable", "variable": "OWNERDOMAIN", "value": "a.example"}),
        (b"CONTACT=http://a.example/?a=b", {"record": "variable", "variable": "CONTACT", "value": "http://a.example/?a=b"}),
        (b"MANAGERDOMAIN=m.example, US", {"record": "variable", "variable": "MANAGERDOMAIN", "value": "m.example, US"}),
        (b"x.example 1 DIRECT", "too_few_fields"),
        (b"<!DOCTYPE html>", "web_page"),
        (b"CONTACT=Ada <ada@a.example>", {"record": "variable", "variable": "CONTACT", "value": "Ada <ada@a.example>"}),
        (b"x.example, 1, DIRECT # <b>ours</b>", seller()),
        (b"x.example, 1", "too_few_fields"),
        (b"x, 1, DIRECT", "not_a_domain:exchange"),
        (b", 1, DIRECT", "not_a_domain:exchange"),
        (b"x.example, , DIRECT", "null:seller_id"),
        (b"x.example, 1, BOTH", "unknown:relationship"),
        (b"x.example, 1, ", "unknown:relationship"),
        (b"x.example, \xff, DIRECT", "not_utf8"),
        (b"CONTACT=", "null:value"),
    ],
)  # fmt: skip
def test_a_line_of_ads_txt(line, expected):
    assert said(line)[0] == expected


def test_a_file_is_read_whatever_ends_its_lines_and_ends_with_how_many_sellers_it_has():
    body = b"\xef\xbb\xbf# ours\r\nx.example, 1, DIRECT\r\r\n \nx.example, 2, RESELLER\noops"
    assert [(one.line, one.broken) for one in ads_txt(body)] == [(2, None), (5, None), (6, "too_few_fields"), (7, None)]
    assert said(body)[-1] == {"record": "end", "sellers": 2}
    assert said(b"") == said(b"# nothing\n") == [{"record": "end", "sellers": 0}]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"seller_id": " 1 ", "seller_type": "publisher"}, {"seller_id": "1", "seller_type": "PUBLISHER"}),
        ({"seller_id": 17, "seller_type": "BOTH"}, {"seller_id": "17", "seller_type": "BOTH"}),
        (
            {"seller_id": "1", "seller_type": "BOTH", "name": "A", "domain": "WWW.A.example", "is_confidential": 0},
            {"seller_id": "1", "seller_type": "BOTH", "name": "A", "domain": "a.example", "is_confidential": False},
        ),
        (
            {"seller_id": "1", "seller_type": "BOTH", "domain": "n/a", "is_passthrough": "yes", "ext": {"a": [1]}},
            {
                "seller_id": "1",
                "seller_type": "BOTH",
                "other": {"domain": "n/a", "is_passthrough": "yes", "ext": {"a": [1]}},
            },
        ),
        ({"seller_id": "1", "seller_type": "BOTH", "is_passthrough": "1"},
         {"seller_id": "1", "seller_type": "BOTH", "is_passthrough": True}),
        ({"seller_type": "PUBLISHER"}, "null:seller_id"),
        ({"seller_id": True, "seller_type": "PUBLISHER"}, "null:seller_id"),
        ({"seller_id": "1"}, "null:seller_type"),
        ({"seller_id": "1", "seller_type": "NETWORK"}, "unknown:seller_type"),
        ({"seller_id": "1", "seller_type": ["BOTH"]}, "unknown:seller_type"),
    ],
)  # fmt: skip
def test_a_seller_of_sellers_json(found, expected):
    declared = said(account(**found), sellers_json)[0]
    assert declared == (expected if isinstance(expected, str) else {"record": "seller", **expected})


def test_a_sellers_json_is_one_object_with_a_list_of_sellers():
    assert said(b'{"sellers": [1], "version": "1.0"}', sellers_json) == [
        "not_an_object",
        {"record": "end", "sellers": 0, "other": {"version": "1.0"}},
    ]
    assert said(b'\xef\xbb\xbf{"sellers": []}', sellers_json) == [{"record": "end", "sellers": 0}]
    for body in (b"[]", b"{}", b'{"sellers": {}}', b"7"):
        assert said(body, sellers_json) == ["no_sellers"]
    for body in (b"", b'{"sellers": [', b"\xff\x00", b"[" * 200_000):
        assert said(body, sellers_json) == ["not_json"]


LINES = st.sampled_from(
    [b"x.example", b"1", b"DIRECT", b"reseller", b",", b";", b"#", b"=", b"SUBDOMAIN", b"\xff", b"\xef\xbb\xbf", b"\0"]
)  # fmt: skip


@given(st.binary(max_size=200) | st.lists(LINES | st.sampled_from([b"\r", b"\n"]), max_size=30).map(b"".join))
@example(b"\x1cx.example,1,DIRECT\x85")
def test_every_line_of_any_bytes_is_declared_broken_or_blank(body):
    found = list(ads_txt(body))
    lines = body.removeprefix(b"\xef\xbb\xbf").splitlines()
    assert [one.line for one in found] == sorted({one.line for one in found})
    assert (found[-1].line, found[-1].fields["record"]) == (len(lines) + 1, "end")
    assert found[-1].fields["sellers"] == sum((one.fields or {}).get("record") == "seller" for one in found)
    assert all((one.fields is None) == bool(one.broken) == (one.raw is not None) for one in found)
    if found[0].broken == "web_page":
        assert b"<" in body
        return
    for number, line in enumerate(lines, 1):
        if not line.partition(b"#")[0].strip():
            assert number not in {one.line for one in found}
        elif line.partition(b"#")[0].strip().isascii() and line[:1].isalnum():
            assert number in {one.line for one in found}


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["BOTH", "a.b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
SELLERS = ODD | st.dictionaries(
    st.sampled_from(["seller_id", "seller_type", "name", "domain", "is_confidential", "is_passthrough", "x"]), ODD
)


@given(st.lists(SELLERS, max_size=5))
def test_every_seller_is_declared_or_broken(sellers):
    found = list(sellers_json(json.dumps({"sellers": sellers}).encode()))
    assert [one.line for one in found] == list(range(1, len(sellers) + 2))
    assert found[-1].fields["sellers"] == sum(one.broken is None for one in found[:-1])
    for one, given_seller in zip(found, sellers, strict=False):
        if one.fields:
            kept = one.fields | (one.fields["other"] or {})
            assert all(kept.get(name) is not None for name, value in given_seller.items() if value is not None)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_sellers_json_or_broken(body):
    assert list(sellers_json(body))


KNOWN = SupplyChain(
    sites={
        "a.example": AdsTxt(
            {
                ("x.example", "own"): {"DIRECT"},
                ("x.example", "holding"): {"DIRECT"},
                ("x.example", "hidden"): {"DIRECT"},
                ("x.example", "theirs"): {"DIRECT"},
                ("x.example", "managed"): {"DIRECT"},
                ("x.example", "managed abroad"): {"DIRECT"},
                ("x.example", "closed"): {"DIRECT", "RESELLER"},
                ("x.example", "agent"): {"RESELLER"},
                ("x.example", "mixed"): {"DIRECT", "RESELLER"},
                ("y.example", "any"): {"DIRECT"},
            },
            owner="holding.example",
            managers={"": "manager.example", "US": "american.example"},
            subdomains={"blog.a.example"},
        ),
        "blog.a.example": AdsTxt({("x.example", "blog"): {"RESELLER"}}),
        "shop.a.example": AdsTxt({("x.example", "shop"): {"RESELLER"}}),
        "deep.b.example": AdsTxt({("x.example", "agent"): {"RESELLER"}}),
        **{of: AdsTxt({("x.example", "own"): {"DIRECT"}}) for of in ("co.uk", "blogspot.com", "d.co.uk", "0.1")},
    },
    exchanges={
        "x.example": {
            "own": "a.example",
            "holding": "holding.example",
            "hidden": None,
            "theirs": "else.example",
            "managed": "manager.example",
            "managed abroad": "american.example",
            "mixed": "else.example",
            "agent": "agent.example",
            "blog": "blog.example",
            "shop": "shop.example",
        }
    },
)


@pytest.mark.parametrize(
    ("site", "exchange", "seller_id", "expected"),
    [
        ("a.example", "x.example", "own", ("authorised", "direct")),
        ("a.example", " X.example", " own ", ("authorised", "direct")),
        ("a.example", "x.example", "holding", ("authorised", "direct")),
        ("a.example", "x.example", "hidden", ("authorised", "direct")),
        ("a.example", "x.example", "agent", ("authorised", "reseller")),
        ("a.example", "x.example", "mixed", ("authorised", "reseller")),
        ("a.example", "y.example", "any", ("authorised", "direct")),
        ("a.example", "x.example", "OWN", ("unauthorised", "not_in_ads_txt")),
        ("a.example", "x.example", "any", ("unauthorised", "not_in_ads_txt")),
        ("a.example", "x.example", "closed", ("unauthorised", "not_in_sellers_json")),
        ("a.example", "x.example", "theirs", ("unauthorised", "other_domain")),
        ("a.example", "x.example", "managed", ("authorised", "direct")),
        ("a.example", "x.example", "managed abroad", ("authorised", "direct")),
        ("news.a.example", "x.example", "own", ("authorised", "direct")),
        # A public suffix is nobody's: it speaks for no site under it.
        ("c.co.uk", "x.example", "own", ("unknown", "no_ads_txt")),
        ("me.blogspot.com", "x.example", "own", ("unknown", "no_ads_txt")),
        ("news.d.co.uk", "x.example", "own", ("unauthorised", "other_domain")),
        ("10.0.0.1", "x.example", "own", ("unknown", "no_ads_txt")),
        ("blog.a.example", "x.example", "blog", ("authorised", "reseller")),
        ("old.blog.a.example", "x.example", "blog", ("authorised", "reseller")),
        ("blog.a.example", "x.example", "own", ("unauthorised", "not_in_ads_txt")),
        ("shop.a.example", "x.example", "shop", ("unauthorised", "not_in_ads_txt")),
        ("deep.b.example", "x.example", "agent", ("authorised", "reseller")),
        ("b.example", "x.example", "agent", ("unknown", "no_ads_txt")),
        ("", "x.example", "own", ("unknown", "no_ads_txt")),
        (None, "x.example", "own", ("unknown", "no_ads_txt")),
        ("a.example", None, "own", ("unknown", "no_seller")),
        ("a.example", "x", "own", ("unknown", "no_seller")),
        ("a.example", "x.example", None, ("unknown", "no_seller")),
        ("a.example", "x.example", " ", ("unknown", "no_seller")),
    ],
)
def test_who_may_sell(site, exchange, seller_id, expected):
    assert authorised(site, exchange, seller_id, KNOWN) == expected


SCHEMA = {
    **dict.fromkeys(
        ["source", "document", "declared_by", "record", "exchange", "seller_id", "relationship", "variable", "value"],
        pl.String,
    ),
    "domain": pl.String,
    "sellers": pl.Int64,
    "line": pl.Int64,
    "fetched_at": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"),
}


def version(whose, body, hour=0, *, cut=0, read=ads_txt):
    """Return the rows of a version of a file; without its last ones if it was cut."""
    moment = NOON + timedelta(hours=hour)
    named = {"source": whose, "declared_by": whose, "document": read.__name__.replace("_", ".")}
    at = {"fetched_at": moment, "received_at": moment}
    rows = [named | at | {"line": one.line} | one.fields for one in read(body) if one.fields]
    kept = [{name: row.get(name) for name in SCHEMA} for row in rows[: len(rows) - cut]]
    return pl.DataFrame(kept, schema=SCHEMA)


def judged(*versions, site="a.example"):
    rows = pl.DataFrame({"site": [site], "exchange": ["x.example"], "seller_id": ["1"]})
    return with_authorisation(rows, asked(pl.concat(versions).lazy(), rows).collect()).row(0)[3:]


LISTED, OTHER = b"x.example, 1, RESELLER\n", b"x.example, 2, RESELLER\n"
YES, NO, NONE = ("authorised", "reseller"), ("unauthorised", "not_in_ads_txt"), ("unknown", "no_ads_txt")


def test_the_newest_version_that_was_read_to_its_end_decides():
    assert judged(version("a.example", LISTED)) == YES
    assert judged(version("a.example", LISTED), version("a.example", OTHER, 1)) == NO
    assert judged(version("a.example", OTHER, 1), version("a.example", LISTED)) == NO
    assert judged(version("a.example", OTHER), version("a.example", LISTED, 1)) == YES
    assert judged(version("a.example", LISTED), version("a.example", OTHER, 1, cut=1)) == YES


def test_a_file_without_sellers_counts_as_none_and_a_placeholder_allows_nobody():
    assert judged(version("a.example", b"")) == NONE
    assert judged(version("a.example", LISTED), version("a.example", b"<html>", 1)) == NONE
    placeholder = b"placeholder.example.com, placeholder, DIRECT, placeholder"
    assert judged(version("a.example", placeholder)) == NO
    empty = version("x.example", b'{"sellers": []}', read=sellers_json)
    assert judged(version("a.example", LISTED), empty) == YES


PAGES = [
    b"<!DOCTYPE html>\n<html><body><pre>\nx.example, 1, RESELLER\n</pre></body></html>",
    b"\xef\xbb\xbf \n\n  <html>\nx.example, 1, RESELLER\n",
    b"How to write one:<br>\nx.example, 1, RESELLER\n",
    b"x.example, 1, RESELLER\n</pre>\n",
    b"<?xml version='1.0'?>\nx.example, 1, RESELLER\n",
    b"<!-- x -->x.example, 1, RESELLER\nx.example, 1, RESELLER\n",
    b"<p\nclass='a'>\nx.example, 1, RESELLER\n",
    b"Not found\n<A HREF='/'>home</A>\nx.example, 1, RESELLER",
]


@pytest.mark.parametrize("page", PAGES, ids=range(len(PAGES)))
def test_a_web_page_in_the_place_of_the_file_counts_as_none(page):
    assert said(page) == ["web_page", {"record": "end", "sellers": 0}]
    assert judged(version("a.example", page)) == NONE
    assert judged(version("a.example", LISTED), version("a.example", page, 1)) == NONE
    assert judged(version("a.example", page), version("a.example", LISTED, 1)) == YES


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (["OWNERDOMAIN=mine.example", "OWNERDOMAIN=theirs.example"], "other_domain"),
        (["OWNERDOMAIN=theirs.example", "OWNERDOMAIN=mine.example"], "direct"),
        (["OWNERDOMAIN=nobody", "ownerdomain=theirs.example"], "direct"),
        (["MANAGERDOMAIN=theirs.example"], "direct"),
        (["OWNERDOMAIN=mine.example", "managerdomain = https://www.theirs.example/, us"], "direct"),
        (["MANAGERDOMAIN=mine.example, US", "MANAGERDOMAIN=theirs.example, DE"], "direct"),
        (["MANAGERDOMAIN=mine.example, US", "MANAGERDOMAIN=theirs.example,us"], "other_domain"),
        (["MANAGERDOMAIN=mine.example", "MANAGERDOMAIN=theirs.example"], "other_domain"),
        (["CONTACT=theirs.example"], "other_domain"),
    ],
)
def test_the_account_of_an_owner_or_a_manager_sells_directly_and_the_first_line_counts(variables, expected):
    body = "\n".join([*variables, "x.example, 1, DIRECT"]).encode()
    theirs = account(seller_id="1", seller_type="BOTH", domain="theirs.example")
    rows = version("a.example", body).reverse()
    assert judged(rows, version("x.example", theirs, read=sellers_json))[1] == expected


def test_an_account_that_the_exchange_does_not_know_may_not_sell():
    theirs = version("x.example", account(seller_id="2", seller_type="BOTH"), read=sellers_json)
    assert judged(version("a.example", LISTED), theirs) == ("unauthorised", "not_in_sellers_json")


def test_a_site_and_an_exchange_of_one_domain_are_told_apart():
    both = version("x.example", account(seller_id="1", seller_type="BOTH"), read=sellers_json)
    assert judged(version("x.example", LISTED), both, site="x.example") == YES


def test_rows_keep_their_number_and_order_and_nothing_declared_is_nothing_known():
    rows = pl.DataFrame(
        {"site": ["b.example", "a.example", None], "exchange": ["x.example"] * 3, "seller_id": ["1", "1", None]}
    )
    found = with_authorisation(rows, version("a.example", LISTED))
    assert found.drop("authorisation", "authorisation_reason").equals(rows)
    assert found["authorisation"].to_list() == ["unknown", "authorised", "unknown"]
    assert set(with_authorisation(rows, pl.DataFrame(schema=SCHEMA))["authorisation"]) == {"unknown"}
    assert with_authorisation(rows.clear(), pl.DataFrame(schema=SCHEMA)).is_empty()


@given(st.permutations(range(6)), st.sampled_from(RELATIONSHIPS))
def test_the_order_of_lines_does_not_matter(order, relationship):
    lines = [b"x.example, 1, %s" % relationship.encode(), b"x.example, 1, RESELLER", b"OWNERDOMAIN=o.example", LISTED]
    lines = [line.strip() for line in (*lines, b"SUBDOMAIN=s.example", OTHER)]
    assert judged(version("a.example", b"\n".join(lines[one] for one in order)))[0] == "authorised"
