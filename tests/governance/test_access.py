import pytest

from governance import catalog
from governance.access import TENANT, AccessDeniedError, Role, role, roles, view

SEES = Role("reader", "Reads a layer and one table.", ("gold", "silver/pages"), hidden=("author_id",))
ALL = Role("auditor", "Reads everything.", ("gold",), all_tenants=True)


@pytest.mark.parametrize("reader", roles().values(), ids=lambda reader: reader.name)
def test_every_table_that_a_role_reads_is_in_the_catalog(reader):
    for table in reader.tables:
        assert table in catalog.tables() if "/" in table else catalog.names(table), table


@pytest.mark.parametrize("reader", roles().values(), ids=lambda reader: reader.name)
def test_every_role_says_who_it_is_for_and_reads_something(reader):
    assert reader.says.endswith(".")
    assert reader.tables
    assert len(set(reader.tables)) == len(reader.tables)


def test_only_roles_that_run_or_answer_for_the_platform_read_all_tenants():
    assert {name for name, reader in roles().items() if reader.all_tenants} == {"engineer", "privacy", "ml"}


@pytest.mark.parametrize("name", ["analyst", "brand_safety", "support", "ml"])
def test_roles_that_need_no_person_see_no_person(name):
    columns = ["author_id", "user_id", "label", TENANT]
    for table in roles()[name].tables:
        seen = view(role(name, "acme"), "acme", table if "/" in table else f"{table}/any", columns)
        assert seen is not None
        assert seen.columns == ("label", TENANT)


@pytest.mark.parametrize("name", ["nobody", "", "Analyst", "analyst ", "../engineer"])
def test_an_unknown_role_is_denied(name):
    with pytest.raises(AccessDeniedError, match="is unknown; there are engineer, "):
        role(name, "acme")


@pytest.mark.parametrize("tenant", [None, ""])
def test_a_role_of_one_tenant_is_denied_without_one(tenant):
    with pytest.raises(AccessDeniedError, match="--tenant"):
        role("analyst", tenant)
    assert role("engineer", None).all_tenants


def test_a_role_sees_the_tables_of_its_layers_and_those_named_and_no_other():
    columns = ["url", TENANT]
    assert view(SEES, "acme", "gold/anything", columns) is not None
    assert view(SEES, "acme", "silver/pages", columns) is not None
    for table in ("silver/messages", "silver/page", "silver/pages2", "bronze/gold", "silver/gold", "golden/x", "pages"):
        assert view(SEES, "acme", table, columns) is None, table


def test_a_role_sees_its_tenants_rows_without_the_columns_hidden_from_it():
    seen = view(SEES, "acme", "silver/pages", ["url", "author_id", "text", TENANT])
    assert seen is not None
    assert (seen.columns, seen.tenant) == (("url", "text", TENANT), "acme")


def test_a_table_whose_rows_name_no_tenant_is_seen_by_who_reads_all_tenants_only():
    assert view(SEES, "acme", "gold/model_list", ["task"]) is None
    assert view(ALL, "acme", "gold/model_list", ["task"]) is None
    seen = view(ALL, None, "gold/model_list", ["task"])
    assert seen is not None
    assert (seen.columns, seen.tenant) == (("task",), None)
