"""A plugin of dbt-duckdb through which dbt reads and writes the lakehouse's Delta tables."""

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
    """Sources are Delta tables, scanned in place. A model's rows go to the Delta table of its name."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:  # noqa: ARG002
        """Open the lakehouse of dbt's environment, which may differ from that of this process's settings."""
        self.lakehouse = lakehouse(load_settings())

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Truncate times to hours and days in UTC, whatever the machine's time zone."""
        conn.execute("set global TimeZone = 'UTC'")
        # It would push down strings of a type that Arrow cannot compare with a table's.
        conn.execute("set global disabled_optimizers = 'join_filter_pushdown'")
        self.connection = conn

    def load(self, source_config: SourceConfig) -> Dataset:
        """Return a table that DuckDB scans lazily: only the columns and days that a query needs."""
        table = f"{source_config.get('layer', source_config.schema)}/{source_config.identifier}"
        columns = source_config.get("columns")
        if columns and not self.lakehouse.exists(table):
            types = [(name, pa.date32() if name == DAY else pa.large_string()) for name in columns]
            return dataset(pa.schema(types).empty_table())
        return arrow_dataset(self.lakehouse, table)

    def default_materialization(self) -> str:
        """Return ``view``: a source is not copied."""
        return "view"

    def store(self, target_config: TargetConfig) -> None:
        """Replace a model's days, or merge the newest row of each key if its configuration has ``newest``."""
        relation, config = target_config.relation, target_config.config
        table = f"{relation.schema}/{relation.identifier}"
        first, last = (date.fromisoformat(config[day]) for day in ("first_day", "last_day"))
        days = [str(first + timedelta(days=offset)) for offset in range((last - first).days + 1)]
        rows = self.connection.cursor().sql(f"from {relation} order by all").pl()
        if "newest" in config:
            self.lakehouse.merge_newest(table, days, rows, **config["newest"])
        else:
            self.lakehouse.replace_days(table, days, rows)
