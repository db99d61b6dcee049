"""The access policies as other databases enforce them: Postgres' row-level security and grants, Unity Catalog's tags.

Both come from what `seamless sql` follows: roles, and the classes of the catalog's columns.
"""

from collections.abc import Iterator

from governance import catalog
from governance.access import Role, roles, view
from governance.catalog import TENANT, Table

# Schema of what decides who is whom; group of everybody in a Databricks account.
ACCESS, EVERYBODY, CATALOG, TAG = "seamless_access", "account users", "seamless", "seamless_class"


def postgres() -> Iterator[str]:
    """Yield statements for a Postgres that has the tables, a schema a layer; they can be run again.

    A login has one role, and a row in ``seamless_access.members`` with its tenant; null is all tenants.
    """
    yield f"CREATE SCHEMA IF NOT EXISTS {ACCESS}"
    yield f"CREATE TABLE IF NOT EXISTS {ACCESS}.members (login name PRIMARY KEY, tenant_id text)"
    yield (
        "CREATE OR REPLACE FUNCTION seamless_access.sees(tenant text, all_tenants boolean) RETURNS boolean\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$\n"
        "  SELECT EXISTS (SELECT FROM seamless_access.members WHERE login = session_user\n"
        "    AND (tenant_id = tenant OR (tenant_id IS NULL AND all_tenants)))\n"
        "$$"
    )
    for role in roles().values():
        yield (
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{_group(role)}')\n"
            f"  THEN CREATE ROLE {_group(role)} NOLOGIN; END IF; END $$"
        )
        yield f"GRANT USAGE ON SCHEMA {', '.join((ACCESS, *_layers(role)))} TO {_group(role)}"
    for table in catalog.tables().values():
        yield f"ALTER TABLE {_named(table)} ENABLE ROW LEVEL SECURITY"
        for role in readers(table):
            columns = "" if role.sees == "all" else f" ({', '.join(map(_quoted, columns_of(role, table)))})"
            yield f"REVOKE ALL ON {_named(table)} FROM {_group(role)}"
            yield f"GRANT SELECT{columns} ON {_named(table)} TO {_group(role)}"
            tenant = f"{TENANT}::text" if TENANT in table.classes else "NULL"
            yield f"DROP POLICY IF EXISTS {_group(role)} ON {_named(table)}"
            yield (
                f"CREATE POLICY {_group(role)} ON {_named(table)} FOR SELECT TO {_group(role)}\n"
                f"  USING ({ACCESS}.sees({tenant}, {str(role.all_tenants).lower()}))"
            )


def unity() -> Iterator[str]:
    """Yield statements for a Unity Catalog that has the tables, a schema a layer, in the catalog ``seamless``.

    A role is an account group, and so is each tenant: ``seamless_tenant_ID``. ``seamless_class`` is a governed tag.
    """
    for table in catalog.tables().values():
        for column, kind in table.classes.items():
            column_of = f"ALTER TABLE {CATALOG}.{_named(table, '`')} ALTER COLUMN `{column}`"
            yield f"{column_of} SET TAGS ('{TAG}' = '{kind}')"
    yield f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{ACCESS}"
    yield (
        f"CREATE OR REPLACE FUNCTION {CATALOG}.{ACCESS}.is_of(tenant STRING) RETURNS BOOLEAN\n"
        "  RETURN is_account_group_member(concat('seamless_tenant_', tenant))"
    )
    yield f"CREATE OR REPLACE FUNCTION {CATALOG}.{ACCESS}.hidden(value VARIANT) RETURNS VARIANT RETURN NULL"
    unbound = [role for role in roles().values() if role.all_tenants]
    yield (
        f"CREATE OR REPLACE POLICY seamless_rows ON CATALOG {CATALOG}\n"
        f"ROW FILTER {CATALOG}.{ACCESS}.is_of\n"
        f"TO `{EVERYBODY}` EXCEPT {_groups(unbound)}\n"
        f"FOR TABLES MATCH COLUMNS has_tag_value('{TAG}', 'tenant') AS tenant USING COLUMNS (tenant)"
    )
    kinds = {f"has_tag_value('{TAG}', '{kind}')": kind for kind in ("subject", "personal", "special", "public")}
    for condition, kind in {**kinds, f"NOT has_tag('{TAG}')": "undeclared"}.items():
        seeing = [role for role in roles().values() if role.sees == "all" or kind in role.sees]
        if len(seeing) < len(roles()):
            yield (
                f"CREATE OR REPLACE POLICY seamless_{kind} ON CATALOG {CATALOG}\n"
                f"COLUMN MASK {CATALOG}.{ACCESS}.hidden\n"
                f"TO `{EVERYBODY}` EXCEPT {_groups(seeing)}\n"
                f"FOR TABLES MATCH COLUMNS {condition} AS hidden ON COLUMN hidden"
            )
    for role in roles().values():
        yield f"GRANT USE CATALOG ON CATALOG {CATALOG} TO `{_group(role)}`"
        for layer in _layers(role):
            yield f"GRANT USE SCHEMA ON SCHEMA {CATALOG}.{layer} TO `{_group(role)}`"
    for table in catalog.tables().values():
        for role in readers(table):
            yield f"GRANT SELECT ON TABLE {CATALOG}.{_named(table, '`')} TO `{_group(role)}`"


def readers(table: Table) -> list[Role]:
    """Return the roles that read some of a table; one whose rows name no tenant is read by roles of all tenants."""
    return [role for role in roles().values() if columns_of(role, table)]


def columns_of(role: Role, table: Table) -> tuple[str, ...]:
    """Return the declared columns of a table that a role sees."""
    if TENANT not in table.classes and not role.all_tenants:
        return ()
    seen = view(role, None, table.name, tuple(table.classes))
    return () if seen is None else seen.columns


def _layers(role: Role) -> list[str]:
    return list(dict.fromkeys(table.layer for table in catalog.tables().values() if role in readers(table)))


def _group(role: Role) -> str:
    return f"seamless_{role.name}"


def _groups(some: list[Role]) -> str:
    return ", ".join(f"`{_group(role)}`" for role in some)


def _named(table: Table, mark: str = '"') -> str:
    layer, name = table.name.split("/")
    return f"{layer}.{_quoted(name, mark)}"


def _quoted(name: str, mark: str = '"') -> str:
    return f"{mark}{name}{mark}"
