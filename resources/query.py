"""SQL over the lakehouse's tables, as one role sees them."""

from typing import Any

import duckdb
import polars as pl

from governance import catalog
from governance.access import AccessDeniedError, View, role, view
from governance.catalog import TENANT
from resources.lakehouse.tables import Lakehouse


class QueryError(ValueError):
    """A query that DuckDB refuses, in its words."""


def query(lakehouse: Lakehouse, sql: str, *, as_role: str, tenant: str | None) -> pl.DataFrame:
    """Run one SELECT over the tables that a role may read, named ``layer.table``.

    Args:
        lakehouse: where the tables are.
        sql: the query, in DuckDB's SQL. Files, settings and other databases are out of its reach.
        as_role: role that reads.
        tenant: tenant whose rows are read; may be None for a role that reads all.

    Raises:
        AccessDeniedError: unknown role, no tenant, or a table that the role may not read.
        QueryError: the query is wrong.
    """
    reader = role(as_role, tenant)
    # Without a folder to spill to: DuckDB lets every query read and write it, whatever access it has.
    with duckdb.connect(":memory:", config={"threads": 2, "temp_directory": ""}) as connection:
        # Times are in UTC, whatever the machine's zone is. First, for a table is compared in the zone it was shown in.
        connection.execute("SET TimeZone = 'UTC'")
        denied = []
        for layer in catalog.layers():
            connection.execute(f"CREATE SCHEMA {layer}")
        for table in filter(lakehouse.exists, catalog.tables()):
            seen = view(reader, tenant, table, lakehouse.columns(table))
            if seen is None:
                denied.append(table.replace("/", "."))
            else:
                _register(connection, lakehouse, table, seen)
        # Times are in UTC, whatever the machine's zone is.
        connection.execute(
            "SET GLOBAL TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true"
        )
        try:
            answer = connection.execute(sql)
            if answer is None:
                raise QueryError("there is no query")
            return answer.pl()
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            if isinstance(error, duckdb.CatalogException) and (asked := [table for table in denied if table in sql]):
                raise AccessDeniedError(f"role {as_role} may not read {', '.join(asked)}") from None
            raise QueryError(str(error).split("\n")[0]) from None


def _register(connection: Any, lakehouse: Lakehouse, table: str, seen: View) -> None:
    """Show a table as ``layer.table``. What is hidden is cut from the rows themselves: no name in SQL reaches it."""
    layer, name = table.split("/")
    rows = lakehouse.scan(table) if seen.tenant is None else lakehouse.scan(table).filter(pl.col(TENANT) == seen.tenant)
    connection.register(f"{layer}_{name}", rows.select(seen.columns))
    connection.execute(f'CREATE VIEW {layer}."{name}" AS FROM "{layer}_{name}"')
