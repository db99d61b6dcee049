from datetime import UTC, datetime, timedelta

import polars as pl

from platform_assets.bronze.social_messages import SCHEMA
from platform_assets.bronze.user_profiles import SCHEMA as PROFILES
from platform_assets.silver.messages import cleaned
from signals.documents.text import content_hash, normalise

SENT = {"message_id": "m1", "author_id": "ann", "text": "Hi @bob,  see https://example.org &amp; smile 😀"}


def profile(given, updated_at=None, user="ann", **more):
    fields = {"user_id": user, "consent": {"yes": True, "no": False}.get(given), "updated_at": updated_at} | more
    return {name: value for name, value in fields.items() if value is not None}


def consent(bronze, *profiles):
    return cleaned(bronze(SCHEMA, SENT), bronze(PROFILES, *profiles))["author_consents"].item()


def test_a_message_is_in_its_normal_form_beside_what_was_sent(bronze):
    row = cleaned(bronze(SCHEMA, SENT | {"sent_at": "2026-11-09T08:00:00Z"}), bronze(PROFILES)).row(0, named=True)
    assert row["text_as_sent"] == SENT["text"]
    assert row["text"] == normalise(SENT["text"]) == "Hi @user, see http & smile 😀"
    assert row["content_hash"] == content_hash(row["text"])
    assert (row["document_id"], row["tenant_id"]) == ("m1", "default")
    assert row["sent_at"] == datetime(2026, 11, 9, 8, tzinfo=UTC)


def test_a_message_without_text_has_an_empty_one(bronze):
    row = cleaned(bronze(SCHEMA, {"message_id": "m1"}), bronze(PROFILES)).row(0, named=True)
    assert (row["text"], row["text_as_sent"], row["author_consents"]) == ("", None, None)
    assert row["sent_at"] == row["received_at"]


def test_the_newest_profile_says_what_its_author_allows(bronze):
    old, new = "2026-11-01T00:00:00Z", "2026-11-05T00:00:00Z"
    assert consent(bronze, profile("no", old), profile("yes", new)) is True
    assert consent(bronze, profile("no", new), profile("yes", old)) is False
    assert consent(bronze, profile("yes", old), profile("no", new), profile("yes", old)) is False
    assert consent(bronze, profile("yes"), profile("no", old)) is True
    assert consent(bronze, profile("yes", new, user="bob")) is None
    assert consent(bronze) is None


def test_consent_given_to_one_organisation_is_none_for_another(bronze):
    sent = bronze(SCHEMA, SENT | {"tenant_id": "acme"}, SENT)
    profiles = bronze(PROFILES, profile("yes", tenant_id="acme"), profile("no", tenant_id="other"))
    found = cleaned(sent, profiles).select("tenant_id", "author_consents")
    assert found.rows() == [("acme", True), ("default", None)]


def test_a_profile_that_is_nobodys_counts_where_an_organisation_has_none(bronze):
    sent = bronze(SCHEMA, SENT | {"tenant_id": "acme"}, SENT | {"tenant_id": "other"})
    profiles = bronze(PROFILES, profile("yes", country="FR"), profile("unsaid", tenant_id="other"))
    found = cleaned(sent, profiles).select("author_country", "author_consents")
    assert found.rows() == [("FR", True), (None, None)]


def test_a_newest_profile_that_says_nothing_allows_nothing(bronze):
    assert consent(bronze, profile("yes", "2026-11-01T00:00:00Z"), profile("unsaid", "2026-11-05T00:00:00Z")) is None


def test_each_author_has_their_own_country_and_consent(bronze):
    sent = [SENT | {"message_id": f"m{i}", "author_id": who} for i, who in enumerate(["ann", "bob", "zoe", "ann"])]
    profiles = bronze(PROFILES, profile("yes", country="FR"), profile("no", user="bob", country="DE"))
    found = cleaned(bronze(SCHEMA, *sent, {"message_id": "m9"}), profiles)
    assert found.select("message_id", "author_country", "author_consents").rows() == [
        ("m0", "FR", True),
        ("m1", "DE", False),
        ("m2", None, None),
        ("m3", "FR", True),
        ("m9", None, None),
    ]


def test_every_message_comes_out_in_its_place(bronze):
    sent = bronze(SCHEMA, SENT | {"text": "first"}, SENT | {"text": "second"}).reverse()
    assert cleaned(sent, bronze(PROFILES))["text"].to_list() == ["second", "first"]


def test_of_profiles_of_one_time_one_without_consent_counts(bronze):
    at = "2026-11-01T00:00:00Z"
    for order in (("yes", "no"), ("no", "yes")):
        assert consent(bronze, *(profile(given, at) for given in order)) is False
        assert consent(bronze, *(profile(given) for given in order)) is False
    assert consent(bronze, profile("unsaid", at), profile("yes", at)) is None


def test_a_profile_without_a_time_is_of_when_it_was_received(bronze):
    sent, noon = bronze(SCHEMA, SENT), datetime(2026, 11, 10, 12, tzinfo=UTC)
    said = [bronze(PROFILES, profile("no"), now=noon), bronze(PROFILES, profile("yes"), now=noon + timedelta(days=1))]
    for order in (said, said[::-1]):
        assert cleaned(sent, pl.concat(order))["author_consents"].item() is True
