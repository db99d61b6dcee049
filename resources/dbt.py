"""How dbt reads and writes the lakehouse: a plugin of dbt-duckdb whose sources and results are Delta tables."""

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import SourceConfig, TargetConfig
from duckdb import DuckDBPyConnection
from pyarrow.dataset import Dataset, dataset

from resources.lakehouse.days import DAY
from resources.lakehouse.files import arrow_dataset
from resources.lakehouse.tables import lakehouse
from resources.settings import load_settings


class Plugin(BasePlugin):
    """Sources are Delta tables, scanned where they are; a model's rows are put into the Delta table of its name."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:  # noqa: ARG002
        """Find the lakehouse that dbt's environment names, which need not be this process's own."""
        self.lakehouse = lakehouse(load_settings())

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Cut hours and days in UTC, whatever the machine's time zone."""
        conn.execute("set global TimeZone = 'UTC'")
        # It would hand Arrow a string of a type that Arrow does not compare with a table's.
        conn.execute("set global disabled_optimizers = 'join_filter_pushdown'")
        self.connection = conn

    def load(self, source_config: SourceConfig) -> Dataset:
        """Return a table that DuckDB scans as it needs: no columns and no days but those that a query asks for."""
        table = f"{source_config.get('layer', source_config.schema)}/{source_config.identifier}"
        columns = source_config.get("columns")
        if columns and not self.lakehouse.exists(table):
            types = [(name, pa.date32() if name == DAY else pa.large_string()) for name in columns]
            return dataset(pa.schema(types).empty_table())
        return arrow_dataset(self.lakehouse, table)

    def default_materialization(self) -> str:
        """Return that a source is looked at where it is, and not copied."""
        return "view"

    def store(self, target_config: TargetConfig) -> None:
        """Put a model's rows in the place of those of its days; or keep the newest row of each key, if it says so."""
        relation, how = target_config.relation, target_config.config
        table = f"{relation.schema}/{relation.identifier}"
        first, last = (date.fromisoformat(how[day]) for day in ("first_day", "last_day"))
        days = [str(first + timedelta(days=later)) for later in range((last - first).days + 1)]
        rows = self.connection.cursor().sql(f"from {relation} order by all").pl()
        if "newest" in how:
            self.lakehouse.keep_newest(table, days, rows, **how["newest"])
        else:
            self.lakehouse.replace_days(table, days, rows)
