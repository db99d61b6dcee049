"""Topics that never stand beside a person's id: which they are, and which rows have one there."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from governance import catalog
from governance.catalog import Table
from governance.erasure import subject_columns
from signals.taxonomies import lineage, nodes

# Layers that are read beyond the platform.
LAYERS = ("gold", "reports")
# Columns in which an id of the taxonomy is a topic; elsewhere 186 is a number.
OF_TOPICS = re.compile(r"topic|iab|^cat$|categor|interest|segment")
# Between the parts of a topic's path.
SEPARATOR = re.compile(r"\s*>\s*")


def tables() -> list[Table]:
    """Return the tables for consumers whose rows name a person."""
    return [table for table in catalog.tables().values() if table.layer in LAYERS and "subject" in table.columns]


@cache
def special_topics() -> frozenset[str]:
    """Return the ids of the topics."""
    marked = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    roots = {*marked["marked"].split(), marked["sensitive"]}
    return frozenset(topic for topic in nodes() if not roots.isdisjoint(lineage(topic)))


@cache
def special_names() -> frozenset[str]:
    """Return the names of the topics, in lower case."""
    return frozenset(nodes()[topic]["name"].lower() for topic in special_topics())


def columns_of_topics(table: Table) -> list[str]:
    """Return the declared columns in which a table has topics."""
    return [name for name in table.classes if OF_TOPICS.search(name)]


def may_hold(table: Table, schema: pl.Schema) -> list[str]:
    """Return the columns of a table that may hold topics, whatever the catalog says of them."""
    known = {*subject_columns(table, schema), catalog.TENANT}
    texts = (pl.String, pl.List, pl.Struct, pl.Array, pl.Categorical, pl.Enum)
    return [name for name, kind in schema.items() if name not in known and isinstance(kind, texts)]


def rows_with_topics(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that have a special topic beside a person's id."""
    columns = may_hold(table, rows.schema)
    persons = subject_columns(table, rows.columns)
    if not columns or not persons:
        return rows.clear()
    named = rows.select(pl.any_horizontal(pl.col(persons).is_not_null())).to_series()
    cells = rows.select(columns).iter_rows()
    special = [any(map(_is_special, columns, row)) for row in cells]
    return rows.filter(named & pl.Series(special, dtype=pl.Boolean))


def _is_special(column: str, value: Any) -> bool:
    return any(_names_topic(column, text) for text in _texts(value))


def _names_topic(column: str, text: str) -> bool:
    if OF_TOPICS.search(column) and text in special_topics():
        return True
    return any(part.lower() in special_names() for part in SEPARATOR.split(text))


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value, also in JSON."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            yield one.strip()
            if one.startswith(("{", "[")):
                try:
                    waiting.append(json.loads(one))
                except (ValueError, RecursionError):
                    continue
