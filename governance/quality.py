"""Validation of rows by the catalog's rules, with Great Expectations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from governance.catalog import Table
from governance.html import html_page

FOLDER = Path(__file__).parent
ROW = "__row__"


@dataclass(frozen=True)
class Validated:
    """The rows that keep every rule, those that break one (with ``rule``), and the validation's HTML page or None."""

    valid: pl.DataFrame
    rejected: pl.DataFrame
    page: str | None


def validate(rows: pl.DataFrame, table: Table, *, page: bool = True) -> Validated:
    """Split rows by a table's rules; ``page`` also renders the validation.

    Of several valid rows with one key the preferred is kept, and the others break ``duplicate_key``. A row that breaks
    several rules is returned once, with all their names.
    """
    rows, html = preferred_first(rows, table.prefer).with_columns(rule=pl.lit(None, pl.String)), None
    if table.rules and rows.height:
        broken, html = _validate(rows.drop("rule"), table, page=page)
        rows = rows.drop("rule").with_row_index(ROW).join(broken, on=ROW, how="left", maintain_order="left").drop(ROW)
    valid, broken = rows.filter(pl.col("rule").is_null()), rows.filter(pl.col("rule").is_not_null())
    first = valid.select(pl.struct(table.key).is_first_distinct()).to_series()
    repeated = valid.filter(~first).with_columns(rule=pl.lit("duplicate_key"))
    return Validated(valid.filter(first).drop("rule"), pl.concat([broken, repeated]), html)


def preferred_first(rows: pl.DataFrame, prefer: Sequence[str]) -> pl.DataFrame:
    """Return rows in an order of preference, ignoring columns that they lack; nulls come last."""
    order = [(name.removeprefix("-"), name.startswith("-")) for name in prefer]
    order = [(name, descending) for name, descending in order if name in rows.columns]
    if not order:
        return rows
    names, descending = zip(*order, strict=True)
    return rows.sort(names, descending=list(descending), nulls_last=True, maintain_order=True)


def prepare_rules() -> None:
    """Import Great Expectations, which takes seconds, before the first rows arrive."""
    import great_expectations  # noqa: F401


def _validate(rows: pl.DataFrame, table: Table, *, page: bool) -> tuple[pl.DataFrame, str | None]:
    """Return the index and rules of each broken row, and the validation as HTML if ``page``."""
    from great_expectations.validator.v1_validator import Validator

    rules = table.rules or {}
    columns = {value for rule in rules.values() for key, value in rule.items() if key.startswith("column")}
    frame = rows.select(*sorted(columns)).with_row_index(ROW).to_pandas()
    result_format = {"result_format": "COMPLETE", "unexpected_index_column_names": [ROW]}
    # Not Batch.validate: it would build the batch a second time, and hash the whole frame each time.
    validator = Validator(_batch(table.name), result_format=result_format, batch_parameters={"dataframe": frame})
    results = validator.validate_expectation_suite(_suite(table.name, json.dumps(rules))).results
    pairs: list[tuple[int, str]] = []
    for result in results:
        name = result.expectation_config.meta["rule"]  # ty: ignore[missing-union-attribute] - every result has one
        if result.exception_info.get("raised_exception"):
            raise RuntimeError(
                f"rule {name} of {table.name} could not be checked: {result.exception_info['exception_message']}"
            )
        pairs += [(int(index[ROW]), name) for index in result.result.get("unexpected_index_list") or []]
        if not result.success and not result.result.get("unexpected_index_list"):
            raise RuntimeError(f"rule {name} of {table.name} failed without naming rows: it cannot route them")
    broken = pl.DataFrame(pairs, schema={ROW: pl.UInt32, "rule": pl.String}, orient="row")
    html = _render(table.name, frame.shape[0], results) if page else None
    return broken.group_by(ROW).agg(pl.col("rule").unique(maintain_order=True).str.join(", ")), html


@lru_cache(maxsize=64)
def _suite(table: str, rules: str) -> Any:
    """Return rules, given as JSON, as a suite of Great Expectations."""
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    suite = ExpectationSuite(table)
    for name, rule in json.loads(rules).items():
        settings = {key: value for key, value in rule.items() if key != "expect"}
        configuration = ExpectationConfiguration(type=f"expect_{rule['expect']}", kwargs=settings, meta={"rule": name})
        # Not add_expectation_configuration: it replaces a rule that expects the same of its column.
        suite.add_expectation(configuration.to_domain_obj())
    return suite


def _render(table: str, rows: int, results: Sequence[Any]) -> str:
    """Return a validation as a page. Great Expectations' own page fetches scripts, and shows values unescaped."""
    from markupsafe import Markup

    broken = sum(not result.success for result in results)
    context = {"table": table, "rows": rows, "results": results, "broken": broken, "made_at": datetime.now(UTC)}
    body = Markup(_template().render(context))  # noqa: S704 - escaped by the template
    return html_page(f"{table} – Seamless", body, (FOLDER / "validation.css").read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def _batch(table: str) -> Any:
    """Return the batch definition of a table's rows. It holds the last frame until the next."""
    return _datasource().add_dataframe_asset(table).add_batch_definition_whole_dataframe("rows")


@lru_cache(maxsize=1)
def _datasource() -> Any:
    """Return the data source of all frames. It is cached, for each addition to it is serialised as YAML."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # All settings at once: each later change would serialise the whole configuration as YAML.
    configuration = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(project_config=configuration, mode="ephemeral").data_sources.add_pandas("staged")


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("validation.html")
