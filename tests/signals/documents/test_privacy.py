import gzip
import json
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.settings import PROJECT
from signals.documents.currency import rates
from signals.documents.openrtb import auction
from signals.documents.privacy import Signals, consented, request_consented
from tests.support.requests import fixtures

# Vendors 1000 to 1004 may do purpose 1.
TC = "CPhBZtcPhBZtcACABAENCACgAIAAAAAAAAAAH2QAYH0AfYB9kAGB9YH2AAAA.YAAAAAAAAAAA"
IN, OUT = 1000, 999
GPP = f"DBACNYA~{TC}~1YNN"
US_IN, US_OUT, US_GPC = "DBABLA~BVAoAAAAAABk.QA", "DBABLA~BVAUAAAAAABk.QA", "DBABLA~BVAoAAAAAABk.YA"
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4)


@pytest.mark.parametrize(
    ("signals", "vendor", "answer"),
    [
        (Signals(), IN, None),
        (Signals(gdpr=0), None, None),
        (Signals(gdpr=0, tc_string="nonsense"), None, None),
        (Signals(gdpr=1, tc_string=TC), IN, True),
        (Signals(tc_string=TC), IN, True),
        (Signals(gdpr=1, tc_string=TC), OUT, False),
        (Signals(gdpr=1, tc_string=TC), None, False),
        (Signals(gdpr=1), IN, False),
        (Signals(gdpr=1, tc_string=""), IN, False),
        (Signals(gdpr=2), IN, False),
        (Signals(gdpr="0"), IN, False),
        (Signals(gdpr=1, tc_string="test_consent"), IN, False),
        (Signals(tc_string=7), IN, False),
        (Signals(us_privacy="1YNN"), None, True),
        (Signals(us_privacy="1YYN"), None, False),
        (Signals(us_privacy="yes"), None, False),
        (Signals(gpp=GPP), IN, True),
        (Signals(gpp=GPP), OUT, False),
        (Signals(gpp=GPP, gpp_sid=[6]), OUT, True),
        (Signals(gpp=GPP, gpp_sid="6"), OUT, True),
        (Signals(gpp=GPP, gpp_sid="2,6"), OUT, False),
        (Signals(gpp=GPP, gpp_sid=[-1]), OUT, None),
        (Signals(gpp=GPP, gpp_sid=[]), OUT, False),
        (Signals(gpp=GPP, gpp_sid=[7]), IN, False),
        (Signals(gpp_sid=[2]), IN, False),
        (Signals(gpp="DBABjw~x~1YNN", gpp_sid=[5]), IN, False),
        (Signals(gpp="junk", gpp_sid=[2]), IN, False),
        (Signals(gpp=US_IN), None, True),
        (Signals(gpp=US_OUT), None, False),
        (Signals(gpp=US_GPC), None, False),
        (Signals(gpp=US_IN, us_privacy="1YYN"), None, False),
        (Signals(gpp=GPP, gpp_sid=[float("inf")]), IN, False),
    ],
)
def test_what_is_said_of_a_person(signals, vendor, answer):
    assert consented(signals, vendor) is answer


@given(st.builds(Signals, JSON, JSON, JSON | st.just(GPP), JSON, JSON))
def test_whatever_is_said_there_is_an_answer(signals):
    assert consented(signals, IN) in (True, False, None)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({}, None),
        ({"regs": {"gdpr": 1}, "user": {"consent": TC}}, True),
        ({"regs": {"ext": {"gdpr": 1}}, "user": {"ext": {"consent": TC}}}, True),
        ({"regs": {"gdpr": None, "ext": {"gdpr": 1}}}, False),
        ({"regs": {"gdpr": 0, "ext": {"gdpr": 1}}}, None),
        ({"regs": {"ext": "malformed"}}, False),
        ({"regs": []}, False),
        ({"regs": {"us_privacy": "1YYY"}}, False),
        ({"regs": {"gpp": GPP, "gpp_sid": [2]}}, True),
    ],
)
def test_what_a_bid_request_says(request_, answer):
    assert request_consented(request_, IN) is answer


def read(regs, consent, vendor):
    user = {"id": "u-secret", "buyeruid": "b-secret", "consent": consent}
    request = {"id": "r", "imp": [{"id": "1", "banner": {}}], "regs": regs, "user": user}
    return auction(json.dumps(request), None, rates(""), date(2026, 11, 10), vendor)["user_id"]


def test_an_auction_keeps_no_user_without_consent():
    assert read({"gdpr": 1}, TC, IN) == "u-secret"
    assert read({"gdpr": 1}, TC, OUT) is None
    assert read({"gdpr": 1}, None, IN) is None
    assert read({}, None, None) == "u-secret"


def test_every_public_fixture_gets_an_answer():
    answers = {name: request_consented(told, IN) for name, told in fixtures().items()}
    said = {name: answer for name, answer in answers.items() if answer is not None}
    assert len(said) > 20
    assert not any(answer for name, answer in said.items() if "sspBC" in name or "blocked" in name)


def test_of_the_samples_those_requests_name_a_user_whose_choices_allow_it():
    answers = {False: 0, True: 0, None: 0}
    for file in sorted((PROJECT / "samples/rtb_auctions").glob("*.gz")):
        for line in gzip.decompress(file.read_bytes()).splitlines():
            with suppress(ValueError, TypeError):
                request = json.loads(line)["request"]
                answer = request_consented(request, 2)
                answers[answer] += 1
                assert answer is not False or not {"id", "buyeruid"} & {*request["user"]}
    assert min(answers.values()) > 100
