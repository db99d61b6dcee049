"""What models leave out because they are not sure: coverage and accuracy of their held-out rows at each confidence."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from platform_assets.operations.model_versions import SCHEMA as MODEL_VERSION
from platform_assets.operations.model_versions import TABLE as VERSIONS
from platform_assets.reports.page import Column, Grid
from platform_assets.reports.text import join_words
from resources.lakehouse.tables import Lakehouse
from signals.models.abstention import ACCURACY, COVERAGE, THRESHOLDS

POINT = {"from": pl.Float64, "coverage": pl.Float64, "accuracy": pl.Float64}
# Of a version: the confidence below which it gives no answer, and its curve.
CURVE = {
    "task": pl.String,
    "model_version": pl.Int64,
    "sure_from": pl.Float64,
    "coverage_curve": pl.List(pl.Struct(POINT)),
}


def with_curves(rows: pl.DataFrame, lakehouse: Lakehouse) -> pl.DataFrame:
    """Return rows of a task and version with its ``sure_from`` and ``coverage_curve``."""
    models = lakehouse.read(VERSIONS) if lakehouse.exists(VERSIONS) else pl.DataFrame(schema=MODEL_VERSION)
    curves = pl.DataFrame([_curve(version) for version in models.to_dicts()], CURVE)
    return rows.join(curves, on=["task", "model_version"], how="left")


def _curve(version: Mapping[str, Any]) -> dict[str, Any]:
    metrics = json.loads(version["metrics"])
    figures = [(least, *(metrics.get(f"{name}{least:.2f}") for name in (COVERAGE, ACCURACY))) for least in THRESHOLDS]
    points = [dict(zip(POINT, point, strict=True)) for point in figures if None not in point]
    about = {name: version[name] for name in ("task", "model_version")}
    return about | {"sure_from": metrics.get("sure_from"), "coverage_curve": points}


def coverage(rows: pl.DataFrame) -> Grid:
    """Return the table of what each task's newest version answers at each confidence, and how much of it is right."""
    title = "Answered and right, by the least confidence that is answered"
    curves = rows.filter(pl.col("coverage_curve").list.len() > 0).sort("model_version")
    curves = curves.unique("task", keep="last").sort("task")
    if curves.is_empty():
        return Grid(title)
    strict = curves.filter(pl.col("sure_from") > 0)["task"].to_list()
    reading = f"{join_words(strict)} give no answer below a confidence." if strict else "Every task answers all texts."
    reading += " Held-out rows; of a threat, sure means sure that there is one, or none."
    columns = [Column("task", "Task", "name"), Column("sure_from", "Answers from", "percent")]
    columns += [Column(str(least), f"From {least:.0%}" if least else "All") for least in THRESHOLDS]
    told = [
        {"task": task, "sure_from": sure_from}
        | {str(point["from"]): f"{point['coverage']:.0%}, {point['accuracy']:.0%} right" for point in curve}
        for task, sure_from, curve in curves.select("task", "sure_from", "coverage_curve").iter_rows()
    ]
    return Grid(title, reading, columns, [dict.fromkeys(map(str, THRESHOLDS)) | row for row in told])
