"""The dbt project of the gold tables: its manifest, its models as assets, and how dbt builds them for some days."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from types import MappingProxyType
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from platform_assets.conventions import table_key, table_spec
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT

FOLDER = PROJECT / "dbt_gold"
TARGET = FOLDER / "target"
PARSE_OUTPUTS = ("partial_parse.msgpack", "manifest.json")
KINDS = ("dbt", "duckdb", "delta")
# Events that repeat an error of another event.
REPEATED_EVENTS = ("LogModelResult", "LogTestResult", "RunResultFailure")


class DbtError(RuntimeError):
    """dbt could not read the project, or could not build a table."""


def manifest() -> dict[str, Any]:
    """Return dbt's manifest of the project, parsed again if a file of the project has changed."""
    outputs = [TARGET / name for name in PARSE_OUTPUTS]
    sources = [FOLDER / "dbt_project.yml", FOLDER / "profiles.yml"]
    for folder in ("models", "macros", "tests"):
        sources += [FOLDER / folder, *(FOLDER / folder).rglob("*")]
    newest = max(path.stat().st_mtime for path in sources)
    if not all(path.exists() and path.stat().st_mtime >= newest for path in outputs):
        _parse()
    return json.loads((TARGET / "manifest.json").read_bytes())


def _parse() -> None:
    TARGET.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=TARGET) as folder:
        messages, failure = _invoke(["parse"], folder)
        if failure:
            raise DbtError(f"dbt cannot read {FOLDER}: {shorten(_failures(messages) or failure, 500)}")
        for name in PARSE_OUTPUTS:
            (Path(folder) / name).replace(TARGET / name)


class GoldTranslator(DagsterDbtTranslator):
    """dbt's models as assets with the same specification as every other table."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return the key of a model, or of a source."""
        return table_key(_table(dbt_resource_props))

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """Return the specification of a model; that of a source stays as dagster-dbt makes it."""
        spec, model = super().get_asset_spec(manifest, unique_id, project), manifest["nodes"].get(unique_id)
        if model is None or model["resource_type"] != "model":
            return spec
        table, parents = _table(model), _tables_read(manifest, unique_id)
        inputs = sorted(name for name in parents if name.startswith("silver/"))
        deps = sorted(parents - {*inputs})
        columns = {name: column["description"] for name, column in model["columns"].items()}
        attributes = table_spec(
            table, model["description"], column_descriptions=columns, inputs=inputs, deps=deps, kinds=KINDS
        )
        del attributes["backfill_policy"]  # set once for all models, in ``@dbt_assets``
        storage = {"dagster/table_name": table, "dagster/storage_kind": "delta"}
        attributes["metadata"] = {**spec.metadata, **attributes["metadata"], **storage}
        return spec.replace_attributes(**attributes)


TRANSLATOR = GoldTranslator()


def _table(node: Mapping[str, Any]) -> str:
    return f"{node['schema']}/{node['name']}"


def _tables_read(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """Return the tables that a model reads, directly or through other models."""
    tables = set()
    for parent in manifest["parent_map"][unique_id]:
        if parent in manifest["nodes"]:
            tables |= {_table(manifest["nodes"][parent]), *_tables_read(manifest, parent)}
            continue
        source = manifest["sources"][parent]
        # A stored gold table is no input: its model is a parent too.
        if source["source_name"] != "stored":
            tables.add(f"{source['config']['meta'].get('layer', source['schema'])}/{source['name']}")
    return tables


def build(
    context: dg.AssetExecutionContext,
    manifest: Mapping[str, Any],
    lakehouse: Lakehouse,
    models: Iterable[str],
    days: Sequence[str],
) -> tuple[list[Any], str]:
    """Have dbt build some models, and test them.

    Args:
        context: of the asset that builds them.
        manifest: dbt's manifest.
        lakehouse: the tables.
        models: names of the models.
        days: contiguous ISO dates whose rows are built.

    Returns:
        Dagster's events of built models and tests; and in one line what failed, if anything.
    """
    uri = lakehouse.uri if "://" in lakehouse.uri else str(Path(lakehouse.uri).resolve())
    environment = {**lakehouse.storage, "LAKEHOUSE_URI": uri, "GOLD_FIRST_DAY": min(days), "GOLD_LAST_DAY": max(days)}
    with TemporaryDirectory(prefix="dbt-") as scratch:
        shutil.copy(TARGET / PARSE_OUTPUTS[0], scratch)
        messages, failure = _invoke(["--no-write-json", "build", "--select", *sorted(models)], scratch, environment)
    events: list[Any] = []
    for message in messages:
        result = DbtCoreCliEventMessage(raw_event=message, event_history_metadata={})
        events += result.to_default_asset_events(manifest, TRANSLATOR, context, TARGET)
    return events, shorten(_failures(messages) or failure, 1_000)


def _invoke(
    command: Sequence[str], target: str, environment: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[dict[str, Any]], str]:
    """Run a dbt command in this process, which has most of its modules loaded already.

    dagster-dbt's resource starts a process a command: 1.8 s more for a first build, 5.5 s more for each later one.

    Returns:
        dbt's messages, and in one line how the command failed, if it did.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner
    from dbt_common.events.functions import msg_to_dict

    messages: list[dict[str, Any]] = []

    def collect(message: Any) -> None:
        if message.info.level != "debug":
            messages.append(msg_to_dict(message))

    folders = {"--target-path": target, "--log-path": target, "--profiles-dir": FOLDER, "--project-dir": FOLDER}
    options = [str(part) for option in folders.items() for part in option]
    before = {name: os.environ.get(name) for name in environment}
    try:
        os.environ.update(environment)
        quiet = ["--log-level", "none", "--log-level-file", "none"]
        result = dbtRunner(callbacks=[collect]).invoke([*quiet, *command, *options])
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        DuckDBConnectionManager.close_all_connections()  # or the next run would see this one's tables
    if isinstance(result.exception, dg.DagsterExecutionInterruptedError | KeyboardInterrupt):
        raise result.exception
    return messages, "" if result.success else f"dbt failed: {result.exception or command}"


def _failures(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return the failures in dbt's messages, each once."""
    failures = []
    for message in messages:
        info, node = message["info"], message["data"].get("node_info", {}).get("node_name")
        if info["level"] == "error" and info["name"] not in REPEATED_EVENTS:
            error = info["msg"].strip().split("\n", 1)[-1]  # without "Runtime Error in model …"
            failures.append(f"{node}: {error}" if node else error)
    return "; ".join(failures)
