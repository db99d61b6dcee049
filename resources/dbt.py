"""A plugin of dbt-duckdb through which dbt reads and writes the lakehouse's Delta tables."""

import os
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import SourceConfig, TargetConfig
from duckdb import DuckDBPyConnection
from pyarrow.dataset import Dataset, dataset

from resources.lakehouse.days import DAY
from resources.lakehouse.files import arrow_dataset
from resources.lakehouse.key_index import KeyIndex
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
        named_in = source_config.get("named_in")
        return arrow_dataset(self.lakehouse, table, self._days_of_documents(table, named_in) if named_in else None)

    def default_materialization(self) -> str:
        """Return ``view``: a source is not copied."""
        return "view"

    def store(self, target_config: TargetConfig) -> None:
        """Replace a model's days, or merge the newest row of each key if its configuration has ``newest``."""
        relation, config = target_config.relation, target_config.config
        table, days = f"{relation.schema}/{relation.identifier}", _range(config["first_day"], config["last_day"])
        rows = self.connection.cursor().sql(f"from {relation} order by all").pl()
        if "newest" in config:
            self.lakehouse.merge_newest(table, days, rows, **config["newest"])
        else:
            self.lakehouse.replace_days(table, days, rows)

    def _days_of_documents(self, table: str, named_in: Sequence[str]) -> list[str]:
        """Return the days on which a table has documents that other tables name on the run's days."""
        days = _range(os.environ["GOLD_FIRST_DAY"], os.environ["GOLD_LAST_DAY"])
        index, found = KeyIndex(self.lakehouse, table, ["document_id"]), set[str]()
        index.refresh()
        for name in named_in:
            if self.lakehouse.exists(name):
                found.update(index.days(self.lakehouse.scan(name, days).select(index.key).unique().collect()))
        return sorted(found)


def _range(first: str, last: str) -> list[str]:
    """Return the days (ISO dates) from the first to the last."""
    start, count = date.fromisoformat(first), (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    return [str(start + timedelta(days=offset)) for offset in range(count)]
