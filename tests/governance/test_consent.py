import polars as pl

from governance import catalog
from governance.consent import OF_A_PERSON, permitted

ROWS = pl.DataFrame(
    {"sync_id": ["a", "b", "c"], "user_id": ["u"] * 3, "partner_uid": ["p"] * 3, "consent": [True, False, None]}
)


def test_what_is_about_a_person_is_kept_only_with_consent():
    kept = permitted(ROWS, catalog.table("silver/user_sync"))
    assert kept.drop("user_id", "partner_uid").equals(ROWS.drop("user_id", "partner_uid"))
    assert kept.select("user_id", "partner_uid").rows() == [("u", "p"), (None, None), (None, None)]


def test_a_table_that_names_no_consent_is_left_as_it_is():
    assert permitted(ROWS, catalog.table("bronze/user_sync")) is ROWS


def test_the_consent_of_a_table_is_one_of_its_columns_and_about_nobody():
    named = {table.consent: table for table in catalog.tables().values() if table.consent}
    assert named
    assert all(table.classes[consent] not in OF_A_PERSON for consent, table in named.items())
