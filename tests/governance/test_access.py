import pytest

from governance import catalog
from governance.access import TENANT, AccessDeniedError, Role, role, roles, view

SEES = Role("reader", "Reads a layer and one table.", ("gold", "silver/pages"), ("tenant", "public"))
ALL = Role("auditor", "Reads everything.", ("gold", "operations"), "all", all_tenants=True)


@pytest.mark.parametrize("reader", roles().values(), ids=lambda reader: reader.name)
def test_every_table_that_a_role_reads_is_in_the_catalog(reader):
    for table in reader.tables:
        assert table in catalog.tables() if "/" in table else catalog.names(table), table


@pytest.mark.parametrize("reader", roles().values(), ids=lambda reader: reader.name)
def test_every_role_says_who_it_is_for_and_reads_something(reader):
    assert reader.description.endswith(".")
    assert reader.tables
    assert len(set(reader.tables)) == len(reader.tables)


def test_only_roles_that_run_or_answer_for_the_platform_read_all_tenants():
    assert {name for name, reader in roles().items() if reader.all_tenants} == {"engineer", "privacy", "ml"}


@pytest.mark.parametrize("name", [name for name in roles() if name not in ("engineer", "privacy")])
@pytest.mark.parametrize("table", catalog.tables())
def test_roles_that_need_no_person_see_no_person_and_nothing_undeclared(name, table):
    reader, known = role(name, "acme"), catalog.table(table).classes
    tenant = None if reader.all_tenants else "acme"
    seen = view(reader, tenant, table, [*known, TENANT, "undeclared", "new_column"])
    columns = () if seen is None else seen.columns
    assert "subject" not in {known.get(column) for column in columns}
    assert not {"undeclared", "new_column"} & {*columns}


def test_privacy_sees_all_that_is_declared_and_the_engineer_everything():
    table = catalog.table("bronze/user_profiles")
    columns = [*table.classes, "undeclared"]
    assert view(role("privacy", None), None, table.name, columns).columns == tuple(table.classes)
    assert view(role("engineer", None), None, table.name, columns).columns == tuple(columns)


def test_privacy_reads_every_table_that_names_a_person():
    for name, table in catalog.tables().items():
        if {"subject", "personal", "special"} & {*table.columns}:
            assert view(role("privacy", None), None, name, [*table.classes]) is not None, name


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
    for table in catalog.tables():
        seen = view(SEES, "acme", table, ["url", TENANT])
        assert (seen is not None) == (table.startswith("gold/") or table == "silver/pages"), table
    with pytest.raises(KeyError):
        view(SEES, "acme", "gold/unheard_of", ["url", TENANT])


def test_a_role_sees_its_tenants_rows_and_the_columns_of_its_classes():
    seen = view(SEES, "acme", "gold/psychosocial_daily", ["author_id", "messages", "event_date", TENANT])
    assert seen is not None
    assert (seen.columns, seen.tenant) == (("event_date", TENANT), "acme")


def test_a_table_whose_rows_name_no_tenant_is_seen_by_who_reads_all_tenants_only():
    assert view(ALL, "acme", "operations/model_versions", ["task"]) is None
    seen = view(ALL, None, "operations/model_versions", ["task"])
    assert seen is not None
    assert (seen.columns, seen.tenant) == (("task",), None)
