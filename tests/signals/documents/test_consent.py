from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signals.documents.consent import (
    ALPHABET,
    MAX_LENGTH,
    ConsentError,
    Ids,
    Restriction,
    TcString,
    gpp_sections,
    tc_string,
    us_fields,
    us_privacy_opted_out,
)

# Strings of the specifications, and of the tests of other decoders, with what those say of them.
BITFIELDS = "COrEAV4OrXx94ACABBENAHCIAD-AAAAAAACAAxAAAAgAIAwgAgAAAAEAgQAAAAAEAYQAQAAAACAAAABAAA"
DISCLOSED = f"{BITFIELDS}.IBAgAAAgAIAwgAgAAAAEAAAACA.QAagAQAgAIAwgA"
RANGES = "CPhBZtcPhBZtcACABAENCACgAIAAAAAAAAAAH2QAYH0AfYB9kAGB9YH2AAAA.YAAAAAAAAAAA"
RESTRICTED = "COtybn4PA_zT4KjACBENAPCIAEBAAECAAIAAAAAAAABAoAMAAQACCQAgAAgAIA"
SPECIFIED = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"
EVERYONE = "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA"
BASE64 = st.text(ALPHABET, max_size=200)
# Real strings with some characters changed, or cut off.
CHANGED = st.builds(
    lambda text, at, new, end: (text[:at] + new + text[at + len(new) :])[:end],
    st.sampled_from([DISCLOSED, RANGES, RESTRICTED, SPECIFIED]),
    st.integers(0, 80),
    st.text(f"{ALPHABET}.~", max_size=4),
    st.integers(0, 200),
)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_a_string_of_bit_fields():
    told = tc_string(BITFIELDS)
    assert (told.created, told.updated) == (utc(2019, 12, 4, 18, 53), utc(2019, 12, 10, 18, 53))
    assert (told.policy, told.country, told.service_specific, told.disclosed) == (2, "AQ", False, None)
    assert told.purposes == {3, 4, 5, 6, 7, 8, 9}
    assert list(told.vendors) == [23, 37, 47, 48, 53, 65, 98]
    assert list(told.interested) == [37, 47, 48, 53, 65, 98, 129]
    assert told.vendors.ranges[2] == range(47, 49)


def test_a_string_of_ranges():
    told = tc_string(RANGES)
    assert told == TcString(
        created=utc(2022, 10, 17, 13, 44, 54),
        updated=utc(2022, 10, 17, 13, 44, 54),
        policy=2,
        service_specific=True,
        country="AA",
        purposes=frozenset({1}),
        interests=frozenset(),
        vendors=Ids((range(1000, 1005),)),
        interested=Ids((range(1003, 1005),)),
        restrictions=(),
        disclosed=None,
    )
    assert 1004 in told.vendors
    assert 1005 not in told.vendors


def test_the_vendors_that_a_string_of_2_3_discloses():
    assert list(tc_string(DISCLOSED).disclosed) == [23, 37, 47, 48, 53, 65, 98, 129]
    assert tc_string("CPSG_8APSG_8AAAAAAENAACAAAAAAAAAAAAAAAAAAAAA.QAAA.IAAA").disclosed == Ids()


def test_the_restrictions_of_a_publisher():
    first, second = tc_string(RESTRICTED).restrictions
    assert (first.purpose, first.kind, list(first.vendors)) == (1, 1, [1, 2])
    assert (second.purpose, second.kind, list(second.vendors)) == (2, 1, [1, 8])


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, True),
        ({"purposes": frozenset({2})}, False),
        ({"vendors": Ids((range(1, 7),))}, False),
        ({"disclosed": Ids((range(7, 8),))}, True),
        ({"disclosed": Ids()}, False),
        ({"restrictions": (Restriction(1, 0, Ids((range(7, 8),))),)}, False),
        ({"restrictions": (Restriction(1, 2, Ids((range(7, 8),))),)}, False),
        ({"restrictions": (Restriction(1, 1, Ids((range(7, 8),))),)}, True),
        ({"restrictions": (Restriction(2, 0, Ids((range(7, 8),))),)}, True),
        ({"restrictions": (Restriction(1, 0, Ids((range(8, 9),))),)}, True),
    ],
)
def test_what_a_string_allows(changes, allowed):
    told = replace(tc_string(RANGES), vendors=Ids((range(5, 9),)))
    assert replace(told, **changes).allows(7, (1,)) is allowed


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("DBABMA~" + SPECIFIED, {2: SPECIFIED}),
        (f"DBACNYA~{SPECIFIED}~1YNN", {2: SPECIFIED, 6: "1YNN"}),
        (f"DBABjw~{SPECIFIED}~1YNN", {5: SPECIFIED, 6: "1YNN"}),
        ("DBABLA~BVAoAAAAAABk.QA", {7: "BVAoAAAAAABk.QA"}),
        ("DBABrw~BVAUAAAAAABk.QA~BAAAAABA.QA", {7: "BVAUAAAAAABk.QA", 8: "BAAAAABA.QA"}),
        ("DBABBg~BUoAAABg.Q", {8: "BUoAAABg.Q"}),
    ],
)
def test_the_sections_of_a_gpp_string(text, sections):
    assert gpp_sections(text) == sections


@pytest.mark.parametrize(
    ("section", "text", "expected"),
    [
        (7, "BVAoAAAAAABk.QA", {"SharingNotice": 1, "SaleOptOut": 2, "TargetedAdvertisingOptOut": 0, "Gpc": 0}),
        (7, "BVAUAAAAAABk.QA", {"SharingNotice": 1, "SaleOptOut": 1, "SharingOptOut": 1, "Gpc": 0}),
        (7, "BVVVkkkkkpFY.Y", {"SensitiveDataLimitUseNotice": 1, "TargetedAdvertisingOptOut": 1, "Gpc": 1}),
        (8, "BUoAAABg.Q", {"SaleOptOutNotice": 1, "SaleOptOut": 2, "SharingOptOut": 2, "Gpc": 0}),
        (8, "BVWSSSVY.Y", {"SaleOptOutNotice": 1, "SaleOptOut": 1, "SharingOptOut": 1, "Gpc": 1}),
    ],
)  # fmt: skip
def test_the_choices_of_persons_in_the_us(section, text, expected):
    assert us_fields(section, text).items() >= expected.items()


def test_a_section_of_the_us_need_not_speak_of_gpc():
    assert "Gpc" not in us_fields(8, "BUoAAABg")


@pytest.mark.parametrize(("text", "opted_out"), [("1YNN", False), ("1NYN", True), ("1YYY", True), ("1---", False)])
def test_a_us_privacy_string(text, opted_out):
    assert us_privacy_opted_out(text) is opted_out


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "C", "gdpr-consent-string", "some consent", "BObdrPUOevsguAfDqFENCNAAAAAmeAAA", BITFIELDS[:40],
        f"{BITFIELDS}.", f"{BITFIELDS}.gAAA", f"{BITFIELDS}.I", f"{BITFIELDS}.é", "C" * (MAX_LENGTH + 1),
        EVERYONE[:-3],
    ],
)  # fmt: skip
def test_what_is_no_tc_string_is_refused(text):
    with pytest.raises(ConsentError):
        tc_string(text)


@pytest.mark.parametrize(
    "text", ["", "D", "DBABMA", f"DBABMA~{SPECIFIED}~x", SPECIFIED, "DBAAAA~x", "DBABgA~x", "DB__gwww~x"]
)
def test_what_is_no_gpp_string_is_refused(text):
    with pytest.raises(ConsentError):
        gpp_sections(text)


@pytest.mark.parametrize("text", ["", "1YN", "1YNX", "2YNN", "1YNNN", "1ynn"])
def test_what_is_no_us_privacy_string_is_refused(text):
    with pytest.raises(ConsentError):
        us_privacy_opted_out(text)


@given(st.text() | CHANGED | BASE64.map(lambda text: f"C{text}") | st.lists(BASE64).map(".".join))
@example("C" + "_" * 400)
def test_any_text_is_a_tc_string_or_refused_in_one_line(text):
    said = ""
    try:
        told = tc_string(text)
        assert len(told.vendors.ranges) <= 6 * len(text)
    except ConsentError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
    assert len(said) < 100


@given(st.text() | CHANGED.map(lambda text: f"DBACNYA~{text}~1YNN") | BASE64.map(lambda text: f"DB{text}~x"))
def test_any_text_is_a_gpp_string_or_refused(text):
    with suppress(ConsentError):
        assert len(gpp_sections(text)) == text.count("~")


@given(st.text() | BASE64.map(lambda text: f"B{text}.Q"), st.sampled_from([7, 8]))
def test_any_text_is_a_section_of_the_us_or_refused(text, section):
    with suppress(ConsentError):
        assert set(us_fields(section, text).values()) <= {0, 1, 2, 3}
