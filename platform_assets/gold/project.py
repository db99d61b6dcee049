"""The dbt project of the gold tables: what dbt knows of it, its models as assets, and how dbt is run on some days."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation
from packaging.version import Version

from platform_assets.conventions import described, table_key
from resources.lakehouse import Lakehouse
from resources.settings import PROJECT

FOLDER = PROJECT / "dbt_gold"
TARGET = FOLDER / "target"
PARSED = ("partial_parse.msgpack", "manifest.json")
DBT = (sys.executable, "-m", "dbt.cli.main", "--log-level-file", "none")
KINDS = ("dbt", "duckdb", "delta")


class DbtError(RuntimeError):
    """dbt could not read the project, or could not build a table."""


def manifest() -> dict[str, Any]:
    """Return what dbt knows of the project, after asking it anew if a file of the project has changed since."""
    known = TARGET / PARSED[-1]
    parts = [FOLDER / "dbt_project.yml", FOLDER / "profiles.yml"]
    for part in ("models", "macros", "tests"):
        parts += [FOLDER / part, *(FOLDER / part).rglob("*")]
    if not known.exists() or known.stat().st_mtime < max(part.stat().st_mtime for part in parts):
        _parse()
    return json.loads(known.read_bytes())


def _parse() -> None:
    TARGET.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=TARGET) as fresh:
        command = [*DBT, "--quiet", "parse", *_paths(fresh)]
        ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603
        if ran.returncode:
            raise DbtError(f"dbt cannot read {FOLDER}: {_one_line(ran.stdout + ran.stderr)}")
        for name in PARSED:
            (Path(fresh) / name).replace(TARGET / name)


class Gold(DagsterDbtTranslator):
    """dbt's models as assets that are described as every other table is."""

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
        wanted = described(
            table, spec.description, owner=model["meta"]["owner"], inputs=inputs, deps=sorted(read - {*inputs}), kinds=KINDS
        )
        del wanted["backfill_policy"]  # of all the models together
        wanted["metadata"] = {**spec.metadata, **wanted["metadata"], "dagster/table_name": table}
        return spec.replace_attributes(**wanted)


def _table(node: Mapping[str, Any]) -> str:
    return f"{node['schema']}/{node['name']}"


def _tables_read(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """Return the tables that a model reads, and those that the models read that it reads."""
    read = set()
    for parent in manifest["parent_map"][unique_id]:
        if parent.startswith("model."):
            read |= {_table(manifest["nodes"][parent]), *_tables_read(manifest, parent)}
        elif manifest["sources"][parent]["source_name"] != "stored":  # a model's own table, whose model is a parent too
            read.add(_table(manifest["sources"][parent]))
    return read


def build(
    context: dg.AssetExecutionContext, project: Mapping[str, Any], lakehouse: Lakehouse, models: Iterable[str], days: Sequence[str]
) -> tuple[list[Any], str | None]:
    """Have dbt build some models, and test them.

    Args:
        context: of the asset that builds them.
        project: what ``manifest`` returned.
        lakehouse: where they read and write.
        models: their names.
        days: ISO dates, without a gap, whose rows are made.

    Returns:
        Dagster's events for each model that was built and each test that was made; and what failed, in one line.
    """
    uri = lakehouse.uri if "://" in lakehouse.uri else str(Path(lakehouse.uri).resolve())
    # dbt works in its own folder, and learns from the environment which lakehouse this is.
    told = {**lakehouse.storage, "LAKEHOUSE_URI": uri, "GOLD_FIRST_DAY": min(days), "GOLD_LAST_DAY": max(days)}
    events: list[Any] = []
    errors: list[str] = []
    with TemporaryDirectory(prefix="dbt-") as scratch, redirect_stdout(StringIO()) as said:
        invocation = DbtCliInvocation.run(
            args=[*DBT, "--log-format", "json", "--no-write-json", "build", *_paths(scratch), "--select", *sorted(models)],
            env={**os.environ, **told},
            manifest=project,
            dagster_dbt_translator=Gold(),
            project_dir=FOLDER,
            target_path=Path(scratch),
            raise_on_error=False,
            context=context,
            adapter=None,
            cli_version=Version(version("dbt-core")),
        )
        for message in invocation.stream_raw_events():
            events += message.to_default_asset_events(project, Gold(), context, Path(scratch))
            if message.raw_event["info"]["level"] == "error":
                errors.append(message.raw_event["info"])
    context.log.debug(said.getvalue())
    print(errors)
    return events, (None if invocation.process.returncode == 0 else _one_line(str(errors)))


def _paths(target: str) -> list[str]:
    return ["--target-path", target, "--log-path", target, "--profiles-dir", str(FOLDER)]


def _one_line(text: str) -> str:
    return " ".join(text.split())
