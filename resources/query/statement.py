"""A query as DuckDB's own parser reads it, before anything runs: no other parser could read it otherwise."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import yaml

import governance
from governance import catalog

# Rows may come from these. What they are made of is looked at, too.
SOURCES = ("BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "EXPRESSION_LIST", "TABLE_FUNCTION", "PIVOT")
# Describes or summarises a query; without one, it shows what DuckDB has.
SHOW = "SHOW_REF"
# The members that every source of rows has in a syntax tree.
SOURCE = {"alias", "sample"}
NODES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
OPERATOR = re.compile(r"\W{1,4}")
# A plain word, or signs that begin no comment; and the kinds of token that are shown whatever they say.
TOKEN = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*|(?:(?!--|/\*)[!#%-&(-/:-@\[-^`{-~])+")
GRAMMAR = (duckdb.token_type.keyword, duckdb.token_type.operator)
# Stands for a literal or a name in the shape of a query.
HIDDEN = "?"
# Schemas of a function as the parser names it.
BUILT_IN = ("", "main")


class QueryError(ValueError):
    """A query is refused, is wrong, or takes more than its limits; the message says which."""


@cache
def allowed_functions() -> frozenset[str]:
    """Return the functions that a query may call, in lower case."""
    text = (Path(governance.__file__).parent / "sql_functions.yaml").read_text(encoding="utf-8")
    return frozenset(name.lower() for names in yaml.safe_load(text).values() for name in names.split())


@cache
def own_names() -> frozenset[str]:
    """Return the names that are the platform's, in lower case: layers, tables, columns and functions."""
    tables = catalog.tables().values()
    names = {name.lower() for table in tables for name in (*table.name.split("/"), *table.classes)}
    return allowed_functions() | names


def shape_of(sql: str) -> str:
    """Return a query without what may be personal: literals, comments, and names that are not the platform's."""
    content = sql.encode("utf-8", "replace")
    tokens = duckdb.tokenize(content.decode())
    words = []
    for (place, kind), (end, _) in zip(tokens, [*tokens[1:], (len(content), None)], strict=False):
        found = TOKEN.match(content, place, end)
        text = found[0].decode() if found else HIDDEN
        words.append(text if kind in GRAMMAR or text.lower() in own_names() else HIDDEN)
    return " ".join(words)


def tables_of(sql: str) -> list[str]:
    """Return the tables that a query reads, as ``layer/table``, each once.

    Raises:
        QueryError: it is no single SELECT, reads anything but tables, or calls a function that is not allowed.
    """
    try:
        with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as parser:
            (text,) = parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("{}",)
    except duckdb.Error as error:
        raise QueryError(str(error).split("\n")[0]) from None
    tree = json.loads(text)
    if tree.get("error", True):
        select_only = tree.get("error_type") == "not implemented"
        raise QueryError("one SELECT is expected" if select_only else tree.get("error_message", "").split("\n")[0])
    if len(tree["statements"]) != 1:
        raise QueryError(f"one SELECT is expected, not {len(tree['statements'])} statements")
    parts = list(_parts(tree["statements"][0]["node"]))
    named = {entry["key"] for part in parts for entry in part.get("cte_map", {}).get("map", ())}
    return list(dict.fromkeys(table for part in parts for table in _tables(part, named)))


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a syntax tree."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _tables(part: dict[str, Any], named: set[str]) -> Iterator[str]:
    """Yield the table that a part of a query reads.

    Raises:
        QueryError: the part is not allowed.
    """
    kind = part.get("type")
    if "function_name" in part:
        _require_function(part)
    elif kind == "BASE_TABLE":
        table, schema = part["table_name"], part["schema_name"]
        if part.get("catalog_name") or (not schema and table not in named):
            raise QueryError(f"{table} is no table of a layer: name it as in gold.site_brand_safety")
        if schema:
            yield f"{schema}/{table}"
    elif kind == "VALUE_PARAMETER":
        raise QueryError("a query has no parameters")
    elif part.keys() >= SOURCE and kind not in SOURCES and not (kind == SHOW and part["query"]):
        raise QueryError(f"a query reads tables and nothing else; {kind} is not allowed")
    elif isinstance(kind, str) and kind.endswith("_NODE") and kind not in NODES:
        raise QueryError(f"{kind} is not allowed")


def _require_function(part: dict[str, Any]) -> None:
    name, schema = part["function_name"], part.get("schema", "")
    is_operator = part.get("is_operator") and OPERATOR.fullmatch(name)
    if part.get("catalog") or schema not in BUILT_IN or not (is_operator or name.lower() in allowed_functions()):
        raise QueryError(f"function {name} is not allowed in a query")
