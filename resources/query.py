"""SQL over the lakehouse's tables, restricted to the view of one role."""

from typing import Any

import duckdb
import polars as pl

from governance import catalog
from governance.access import AccessDeniedError, View, role, view
from governance.catalog import TENANT
from resources.lakehouse.tables import Lakehouse


class QueryError(ValueError):
    """DuckDB refuses the query; the message is DuckDB's."""


def query(lakehouse: Lakehouse, sql: str, *, as_role: str, tenant: str | None) -> pl.DataFrame:
    """Run one SELECT over the tables that a role may read, named ``layer.table``.

    Args:
        lakehouse: where the tables are.
        sql: the query in DuckDB's SQL, without access to files, settings and other databases.
        as_role: name of the role.
        tenant: tenant whose rows are read; None for all, if the role may read all.

    Raises:
        AccessDeniedError: unknown role, no tenant, or a table that the role may not read.
        QueryError: the query is wrong.
    """
    reader = role(as_role, tenant)
    # No folder to spill to: every query could read and write it, whatever access it has.
    with duckdb.connect(":memory:", config={"threads": 2, "temp_directory": ""}) as connection:
        # UTC, whatever the machine's zone. Set before the tables are registered: their times keep the zone of then.
        connection.execute("SET TimeZone = 'UTC'")
        denied = []
        for layer in catalog.layers():
            connection.execute(f"CREATE SCHEMA {layer}")
        for table in filter(lakehouse.exists, catalog.tables()):
            visible = view(reader, tenant, table, lakehouse.columns(table))
            if visible is None:
                denied.append(table.replace("/", "."))
            else:
                _register(connection, lakehouse, table, visible)
        connection.execute(
            "SET GLOBAL TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true"
        )
        try:
            result = connection.execute(sql)
            if result is None:
                raise QueryError("there is no query")
            return result.pl()
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            if isinstance(error, duckdb.CatalogException) and (named := [table for table in denied if table in sql]):
                raise AccessDeniedError(f"role {as_role} may not read {', '.join(named)}") from None
            raise QueryError(str(error).split("\n")[0]) from None


def _register(connection: Any, lakehouse: Lakehouse, table: str, visible: View) -> None:
    """Register a table as ``layer.table``, without its hidden rows and columns: no name in SQL can reach them."""
    layer, name = table.split("/")
    rows = lakehouse.scan(table)
    if visible.tenant is not None:
        rows = rows.filter(pl.col(TENANT) == visible.tenant)
    connection.register(f"{layer}_{name}", rows.select(visible.columns))
    connection.execute(f'CREATE VIEW {layer}."{name}" AS FROM "{layer}_{name}"')
