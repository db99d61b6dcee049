"""One row is one undeclared field of one table on one day: its type, its first receipt, and its count.

``share`` is of the table's rows of the day; ``first_seen`` is when the first of them was received. Undeclared fields
are kept in ``undeclared``, as JSON. Declaring one in its table's module makes it a column, also of stored rows.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

import dagster as dg
import msgspec
import polars as pl

from platform_assets.bronze import SCHEMAS
from platform_assets.conventions import table_spec
from platform_assets.parsing import UNDECLARED
from platform_assets.publishing import start
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/schema_drift"
INPUTS = tuple(expected.table for expected in SCHEMAS)
TYPES = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
SCHEMA = {
    DAY: pl.Date,
    "table": pl.String,
    "field": pl.String,
    "type": pl.String,
    "rows": pl.Int64,
    "share": pl.Float64,
    "first_seen": pl.Datetime("us", "UTC"),
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def schema_drift(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Count the undeclared fields."""
    write = start(context, lakehouse, TABLE, INPUTS)
    counts = [row for table in INPUTS for row in undeclared(lakehouse, table, write.days)]
    rows = pl.DataFrame(counts, schema=SCHEMA, orient="row").sort(DAY, "table", "field", "type")
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    fields = sorted({f"{table}: {field}" for table, field in rows.select("table", "field").iter_rows()})
    return write.result({"fields": fields}, rows_out=rows.height)


def undeclared(lakehouse: Lakehouse, table: str, days: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """Yield the rows of this table for the undeclared fields of a bronze table on some days."""
    stored = lakehouse.scan(table, days)
    total = dict(stored.group_by(DAY).len().collect().iter_rows())
    fields = stored.filter(pl.col(UNDECLARED).is_not_null()).select(DAY, "received_at", UNDECLARED)
    counts: Counter[tuple[date, str, str]] = Counter()
    first: dict[tuple[date, str, str], datetime] = {}
    for day, received_at, text in fields.sort("received_at").collect().iter_rows():
        for field, value in msgspec.json.decode(text).items():
            name = (day, field, TYPES.get(type(value), "object"))
            counts[name] += 1
            first.setdefault(name, received_at)
    for (day, field, kind), rows in counts.items():
        yield day, table, field, kind, rows, round(rows / total[day], 6), first[day, field, kind]
