"""Another database that is given the policies answers each role as `seamless sql` does."""

import polars as pl
import psycopg
import pytest
from psycopg import sql

from governance import catalog
from governance.access import AccessDeniedError, roles
from governance.catalog import TENANT
from governance.policies import postgres, unity
from resources.lakehouse.tables import Lakehouse
from resources.query.select import select, views_of

SECRET = "a password of the tests"
# With rows: of each layer, with and without a tenant, with and without a person.
FILLED = (
    "bronze/user_profiles", "silver/messages", "silver/message_signals", "silver/decisions", "gold/psychosocial_daily",
    "gold/contextual_signals", "gold/audit_trail", "reports/risk_analysis", "operations/model_versions",
)  # fmt: skip
BOUND = [(name, "acme") for name in roles()] + [(name, None) for name, role in roles().items() if role.all_tenants]


def rows_of(table):
    """Return rows of two tenants and of none, in which each value says where it stands."""
    columns = [*catalog.table(table).classes, "undeclared"]
    tenants = ("acme", "other", None)
    return pl.DataFrame(
        {name: tenants if name == TENANT else [f"{table} {name} {tenant}" for tenant in tenants] for name in columns}
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lakehouse(uri=str(tmp_path_factory.mktemp("lake")))
    for table in FILLED:
        made.replace_all(table, rows_of(table))
    return made


@pytest.fixture(scope="module")
def database(postgres_server):
    """Return the address of a database with the tables, the policies twice, and a login for each role and tenant."""
    with psycopg.connect(postgres_server, autocommit=True) as session:
        for layer in catalog.layers():
            session.execute(f"CREATE SCHEMA {layer}")
        for name, table in catalog.tables().items():
            columns = ", ".join(f'"{column}" text' for column in (*table.classes, "undeclared"))
            layer, short = name.split("/")
            session.execute(f'CREATE TABLE {layer}."{short}" ({columns})')
            if name in FILLED:
                rows = rows_of(name)
                put = sql.SQL("INSERT INTO {} VALUES ({})").format(
                    sql.Identifier(layer, short), sql.SQL(", ").join([sql.Placeholder()] * rows.width)
                )
                session.cursor().executemany(put, rows.rows())
        for _ in range(2):
            for statement in postgres():
                session.execute(statement)
        for role, tenant in BOUND:
            login = f"{role}_of_{tenant}".lower()
            session.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{SECRET}' IN ROLE seamless_{role}")
            session.execute("INSERT INTO seamless_access.members VALUES (%s, %s)", [login, tenant])
    return postgres_server


def asked_of_the_sandbox(lake, role, tenant, table):
    """Return all that a role sees of a table."""
    text = f"FROM {table.replace('/', '.')} ORDER BY ALL NULLS LAST"
    try:
        views = views_of(lake, text, as_role=role, tenant=tenant)
        return select(lake, text, views, max_rows=1_000, memory_bytes=1 << 30)
    except AccessDeniedError:
        return pl.DataFrame()


def asked_of_postgres(session, table, columns):
    """Return rows as the session's login sees them; none where it is not let."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    text = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(names, sql.Identifier(*table.split("/")), names)
    try:
        return session.execute(text).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return []


@pytest.mark.slow
@pytest.mark.parametrize(("role", "tenant"), BOUND)
def test_postgres_gives_each_role_the_rows_and_columns_that_the_sandbox_gives(database, lake, role, tenant):
    shown = 0
    with psycopg.connect(database, user=f"{role}_of_{tenant}".lower(), password=SECRET, autocommit=True) as session:
        for table in FILLED:
            seen = asked_of_the_sandbox(lake, role, tenant, table)
            if seen.width:
                assert asked_of_postgres(session, table, seen.columns) == seen.rows(), table
            for hidden in {*rows_of(table).columns} - {*seen.columns}:
                assert asked_of_postgres(session, table, [hidden]) == [], (table, hidden)
            shown += seen.height
    assert shown


@pytest.mark.slow
def test_a_login_of_postgres_cannot_become_of_another_tenant(database):
    with psycopg.connect(database, user="analyst_of_acme", password=SECRET, autocommit=True) as session:
        for wrong in (
            "UPDATE seamless_access.members SET tenant_id = 'other'",
            "INSERT INTO seamless_access.members VALUES ('analyst_of_acme', NULL)",
            "SELECT * FROM seamless_access.members",
            "SET ROLE seamless_engineer",
            "ALTER TABLE gold.contextual_signals DISABLE ROW LEVEL SECURITY",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(wrong)
        session.execute("SET ROLE seamless_analyst")
        assert {row[0] for row in session.execute("SELECT tenant_id FROM gold.contextual_signals")} == {"acme"}


def test_unity_catalog_hides_each_class_from_all_but_the_roles_that_see_it():
    text = list(unity())
    masks = {one.split()[4]: one for one in text if "COLUMN MASK" in one}
    assert {*masks} == {f"seamless_{kind}" for kind in ("subject", "personal", "special", "undeclared")}
    for kind in ("subject", "personal", "special", "undeclared"):
        seeing = {f"`seamless_{name}`" for name, role in roles().items() if role.sees == "all" or kind in role.sees}
        assert {*masks[f"seamless_{kind}"].split("EXCEPT ")[1].split("\n")[0].split(", ")} == seeing
    tagged = {one.split(" ALTER COLUMN ")[0].split(".", 1)[1]: one for one in text if "SET TAGS" in one}
    assert len(tagged) == len(catalog.tables())
    assert sum("SET TAGS" in one for one in text) == sum(len(table.classes) for table in catalog.tables().values())
    (filtered,) = (one for one in text if "ROW FILTER" in one)
    assert "EXCEPT `seamless_engineer`, `seamless_privacy`, `seamless_ml`\n" in filtered
    granted = {tuple(one.split("`")[1::2]) for one in text if one.startswith("GRANT SELECT")}
    assert ("messages", "seamless_privacy") in granted
    assert ("messages", "seamless_analyst") not in granted
