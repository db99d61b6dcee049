"""One SELECT, run in this process over the views of one role."""

from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from governance import catalog
from governance.access import AccessDeniedError, View, role, view
from governance.catalog import TENANT
from resources.lakehouse.reading import TableMissingError
from resources.lakehouse.tables import Lakehouse
from resources.query.statement import QueryError, tables_of

BATCH = 10_000
# Of an answer; more would fill the memory of whoever reads it.
MAX_BYTES = 512 << 20


def views_of(lakehouse: Lakehouse, sql: str, *, as_role: str, tenant: str | None) -> dict[str, View]:
    """Return what a role sees of each table that a query reads.

    Raises:
        AccessDeniedError: unknown role, no tenant, or a table that the role may not read.
        QueryError: the query is wrong, not allowed, or reads a table that is not there.
    """
    reader, views = role(as_role, tenant), {}
    for table in tables_of(sql):
        name = table.replace("/", ".")
        if table not in catalog.tables():
            raise QueryError(f"there is no table {name}")
        try:
            visible = view(reader, tenant, table, lakehouse.columns(table))
        except TableMissingError as error:
            raise QueryError(str(error)) from None
        if visible is None:
            raise AccessDeniedError(f"role {as_role} may not read {name}")
        views[table] = visible
    return views


def select(lakehouse: Lakehouse, sql: str, views: dict[str, View], *, max_rows: int, memory_bytes: int) -> pl.DataFrame:
    """Return the rows of a query over some views.

    Raises:
        QueryError: DuckDB refuses the query, it needs more memory, or its answer is too large.
    """
    # No folder to spill to: every query could read and write it, whatever access it has.
    config: dict[str, Any] = {"threads": 2, "temp_directory": "", "memory_limit": f"{memory_bytes}B"}
    config["python_enable_replacements"] = False
    with duckdb.connect(":memory:", config=config) as connection:
        # UTC, whatever the machine's zone. Set before the tables are registered: their times keep the zone of then.
        connection.execute("SET TimeZone = 'UTC'")
        for layer in {table.split("/")[0] for table in views}:
            connection.execute(f"CREATE SCHEMA {layer}")
        for table, visible in views.items():
            _register(connection, lakehouse, table, visible)
        connection.execute(
            "SET GLOBAL TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true"
        )
        try:
            rows, batches, height, size = connection.execute(sql).to_arrow_reader(BATCH), [], 0, 0
            for batch in rows:
                batches.append(batch)
                height, size = height + batch.num_rows, size + batch.nbytes
                if height > max_rows or size > MAX_BYTES:
                    raise QueryError(f"the answer has over {max_rows:,} rows or {MAX_BYTES >> 20} MiB: add a LIMIT")
            return pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches, rows.schema)))
        except (duckdb.Error, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise QueryError(str(error).split("\n")[0]) from None


def _register(connection: Any, lakehouse: Lakehouse, table: str, visible: View) -> None:
    """Register a table as ``layer.table``, without its hidden rows and columns: no name in SQL can reach them."""
    layer, name = table.split("/")
    rows = lakehouse.scan(table)
    if visible.tenant is not None:
        rows = rows.filter(pl.col(TENANT) == visible.tenant)
    connection.register(f"{layer}_{name}", rows.select(visible.columns))
    connection.execute(f'CREATE VIEW {layer}."{name}" AS FROM "{layer}_{name}"')
