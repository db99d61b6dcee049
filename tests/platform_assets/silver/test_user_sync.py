import pytest

from platform_assets.bronze.user_sync import SCHEMA
from platform_assets.silver.user_sync import typed
from resources.settings import configure
from tests.signals.documents.test_privacy import GPP, TC


@pytest.fixture
def vendor():
    configure(tcf_vendor_id=1000)
    yield
    configure()


def consent(bronze, **told):
    return typed(bronze(SCHEMA, {"sync_id": "s", "user_id": "u", **told})).row(0, named=True)["consent"]


@pytest.mark.usefixtures("vendor")
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, None),
        ({"consent": True}, True),
        ({"consent": False}, False),
        ({"gdpr": 1, "gdpr_consent": TC}, True),
        ({"gdpr": 1, "gdpr_consent": TC, "consent": False}, True),
        ({"gdpr": 1, "gdpr_consent": "nonsense", "consent": True}, False),
        ({"gdpr": 0, "consent": True}, True),
        ({"us_privacy": "1YYN", "consent": True}, False),
        ({"gpp": GPP, "gpp_sid": "2"}, True),
    ],
)
def test_consent_is_what_the_strings_say_or_else_the_source(bronze, told, expected):
    assert consent(bronze, **told) is expected


def test_without_an_id_of_ours_no_tc_string_consents(bronze):
    assert consent(bronze, gdpr=1, gdpr_consent=TC) is False


def test_the_strings_are_not_kept(bronze):
    assert not {"gdpr_consent", "gpp", "us_privacy"} & {*typed(bronze(SCHEMA, {"sync_id": "s"})).columns}
