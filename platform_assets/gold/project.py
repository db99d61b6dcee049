"""The dbt project of the gold tables: what dbt knows of it, its models as assets, and how dbt is run on some days."""

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
PARSED = ("partial_parse.msgpack", "manifest.json")
KINDS = ("dbt", "duckdb", "delta")


class DbtError(RuntimeError):
    """dbt could not read the project, or could not build a table."""


def manifest() -> dict[str, Any]:
    """Return what dbt knows of the project, after asking it anew if a file of the project has changed since."""
    known = [TARGET / name for name in PARSED]
    parts = [FOLDER / "dbt_project.yml", FOLDER / "profiles.yml"]
    for part in ("models", "macros", "tests"):
        parts += [FOLDER / part, *(FOLDER / part).rglob("*")]
    newest = max(part.stat().st_mtime for part in parts)
    if not all(one.exists() and one.stat().st_mtime >= newest for one in known):
        _parse()
    return json.loads((TARGET / "manifest.json").read_bytes())


def _parse() -> None:
    TARGET.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=TARGET) as fresh:
        said, failure = _invoke(["parse"], fresh)
        if failure:
            raise DbtError(f"dbt cannot read {FOLDER}: {shorten(_faults(said) or failure, 500)}")
        for name in PARSED:
            (Path(fresh) / name).replace(TARGET / name)


class Gold(DagsterDbtTranslator):
    """dbt's models as assets that are table_spec as every other table is."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return the key of a model, or of a source."""
        return table_key(_table(dbt_resource_props))

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """Return a model as an asset; a source, which is no asset of dbt's, as dagster-dbt has it."""
        spec, model = super().get_asset_spec(manifest, unique_id, project), manifest["nodes"].get(unique_id)
        if model is None or model["resource_type"] != "model":
            return spec
        table, read = _table(model), _tables_read(manifest, unique_id)
        inputs = sorted(name for name in read if name.startswith("silver/"))
        deps = sorted(read - {*inputs})
        column_descriptions = {name: column["description"] for name, column in model["columns"].items()}
        wanted = table_spec(
            table, model["description"], column_descriptions=column_descriptions, inputs=inputs, deps=deps, kinds=KINDS
        )
        del wanted["backfill_policy"]  # which is that of all models together
        place = {"dagster/table_name": table, "dagster/storage_kind": "delta"}
        wanted["metadata"] = {**spec.metadata, **wanted["metadata"], **place}
        return spec.replace_attributes(**wanted)


TRANSLATOR = Gold()


def _table(node: Mapping[str, Any]) -> str:
    return f"{node['schema']}/{node['name']}"


def _tables_read(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """Return the tables that a model reads, and those that the models read which it reads."""
    read = set()
    for parent in manifest["parent_map"][unique_id]:
        if parent in manifest["nodes"]:
            read |= {_table(manifest["nodes"][parent]), *_tables_read(manifest, parent)}
        elif (source := manifest["sources"][parent])["source_name"] != "stored":  # whose model is a parent too
            read.add(_table(source))
    return read


def build(
    context: dg.AssetExecutionContext,
    known: Mapping[str, Any],
    lakehouse: Lakehouse,
    models: Iterable[str],
    days: Sequence[str],
) -> tuple[list[Any], str]:
    """Have dbt build some models, and test them.

    Args:
        context: of the asset that builds them.
        known: what ``manifest`` returned.
        lakehouse: where they read and write.
        models: their names.
        days: ISO dates, without a gap, whose rows are made.

    Returns:
        Dagster's events, of models that were built and tests that were made; and in a line what failed, if anything.
    """
    uri = lakehouse.uri if "://" in lakehouse.uri else str(Path(lakehouse.uri).resolve())
    # dbt learns from its environment where the lakehouse is.
    told = {**lakehouse.storage, "LAKEHOUSE_URI": uri, "GOLD_FIRST_DAY": min(days), "GOLD_LAST_DAY": max(days)}
    with TemporaryDirectory(prefix="dbt-") as scratch:
        shutil.copy(TARGET / PARSED[0], scratch)
        said, failure = _invoke(["--no-write-json", "build", "--select", *sorted(models)], scratch, told)
    events: list[Any] = []
    for message in said:
        result = DbtCoreCliEventMessage(raw_event=message, event_history_metadata={})
        events += result.to_default_asset_events(known, TRANSLATOR, context, TARGET)
    return events, shorten(_faults(said) or failure, 1_000)


def _invoke(
    command: Sequence[str], target: str, told: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[dict[str, Any]], str]:
    """Run a command of dbt's in this process, where most of what it needs is loaded already.

    Returns:
        What dbt says, a dictionary a message, and in a line how the command failed, if it did.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner
    from dbt_common.events.functions import msg_to_dict

    said: list[dict[str, Any]] = []

    def note(message: Any) -> None:
        if message.info.level != "debug":
            said.append(msg_to_dict(message))

    folders = {"--target-path": target, "--log-path": target, "--profiles-dir": FOLDER, "--project-dir": FOLDER}
    options = [str(part) for option in folders.items() for part in option]
    before = {name: os.environ.get(name) for name in told}
    try:
        os.environ.update(told)
        quiet = ["--log-level", "none", "--log-level-file", "none"]
        ran = dbtRunner(callbacks=[note]).invoke([*quiet, *command, *options])
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        DuckDBConnectionManager.close_all_connections()  # or the next run would find this one's tables
    if isinstance(ran.exception, dg.DagsterExecutionInterruptedError | KeyboardInterrupt):
        raise ran.exception
    return said, "" if ran.success else f"dbt failed: {ran.exception or command}"


def _faults(said: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(fault for message in said for fault in _failures(message))


def _failures(event: Mapping[str, Any]) -> list[str]:
    """Return what an event of dbt's log says to have failed, and how; not what it says in passing, or twice."""
    info, node = event["info"], event["data"].get("node_info", {}).get("node_name")
    if info["level"] != "error" or info["name"] in ("LogModelResult", "LogTestResult", "RunResultFailure"):
        return []
    how = info["msg"].strip().split("\n", 1)[-1]  # what follows "Runtime Error in model …"
    return [f"{node}: {how}" if node else how]
