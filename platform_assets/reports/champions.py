"""Blocks of the health page on champions: their figures, and what they answer."""

from typing import Any

import polars as pl

from platform_assets.reports.aggregates import halves, largest, ratio, total
from platform_assets.reports.page import Column, Grid
from platform_assets.reports.plots import by_day
from platform_assets.reports.text import format_value, percent
from resources.lakehouse.days import DAY
from signals.answers import LANGUAGE, NO_TEXT, NOT_SURE
from signals.tasks import TASKS


def serving(answers: pl.DataFrame, champions: pl.DataFrame) -> pl.DataFrame:
    """Return the answers of each task's champion, or of its newest version where no champion is recorded."""
    recorded = champions.select("task", champion=pl.col("model_version"))
    newest = pl.col("model_version").max().over("task")
    ranked = answers.join(recorded, on="task", how="left").with_columns(pl.col("champion").fill_null(newest))
    return ranked.filter(pl.col("model_version") == pl.col("champion")).drop("champion")


def registered(models: pl.DataFrame) -> Grid:
    """Return the table of champions: their metrics, and the gate's reason."""
    if models.is_empty():
        return Grid("Champions")
    tasks = pl.DataFrame([{"task": task.name, "metric": task.metric, "floor": task.floor} for task in TASKS.values()])
    champions = models.filter(pl.col("is_champion")).drop("metric")
    rows = tasks.join(champions, on="task", how="left", maintain_order="left").with_columns(
        calibration_error=pl.col("metrics").str.json_path_match("$.calibration_error").cast(pl.Float64),
        room=pl.col("metric_value") - pl.col("floor"),
        promoted_why=pl.col("promoted_why").fill_null("no champion"),
    )
    reading = "No task has a champion."
    measured_champions = rows.drop_nulls("room").sort("room", "task").to_dicts()
    if measured_champions:
        value, floor = measured_champions[0]["metric_value"], measured_champions[0]["floor"]
        reading = f"{measured_champions[0]['task']} is nearest to its floor, {value:.2f} where {floor:.2f} is needed."
    measured = largest(rows.drop_nulls("calibration_error"), "calibration_error", "task").to_dicts()
    if measured:
        error = measured[0]["calibration_error"]
        reading += f" The scores of {measured[0]['task']} are the least calibrated: {error:.2f} off."
    columns = [
        Column("task", "Task", "name"),
        Column("model_version", "Version", "count"),
        Column("metric", "Judged by", "name"),
        Column("metric_value", "Held-out figure", "decimal"),
        Column("floor", "Floor", "decimal"),
        Column("calibration_error", "Calibration error", "decimal"),
        Column("rows_train", "Trained on", "count"),
        Column("rows_val", "Held out", "count"),
        Column("trained_at", "Trained (UTC)", "moment"),
        Column("promoted_why", "What the gate said", "title"),
    ]
    return Grid("Champions", reading, columns, rows.to_dicts())


def decided(answers: pl.DataFrame) -> Grid:
    """Return the table of champions' decisions: number, mean score, and shift of their labels."""
    if answers.is_empty():
        return Grid("Answers of the champions")
    rows = [
        _answers(task, task_answers)
        for (task,), task_answers in answers.sort("task").group_by("task", maintain_order=True)
    ]
    least = min(rows, key=lambda row: row["score"] if row["score"] is not None else 1.0)
    reading = f"{least['task']} is the least sure, {format_value(least['score'], 'decimal')} on average."
    moved = [row for row in rows if row["shift"] is not None]
    if moved:
        most = max(moved, key=lambda row: row["shift"])
        reading += f" The answers of {most['task']} have moved the most: {percent(most['shift'])} lie on other labels."
    columns = [
        Column("task", "Task", "name"),
        Column("decisions", "Decisions", "count"),
        Column("score", "Mean score", "decimal"),
        Column("by_day", "Mean score by day", "line"),
        Column("label", "Commonest answer"),
        Column("share", "Its share", "bar"),
        Column("shift", "Shift", "percent"),
        Column(LANGUAGE, "No answer: language", "count"),
        Column(NO_TEXT, "No answer: no text", "count"),
        Column(NOT_SURE, "No answer: not sure", "count"),
    ]
    return Grid("Answers of the champions", reading, columns, rows)


def _answers(task: str, answers: pl.DataFrame) -> dict[str, Any]:
    mean = ratio(pl.col("score").sum(), pl.col("decisions").sum())
    abstained = dict(answers.drop_nulls("abstention").group_by("abstention").agg(pl.col("decisions").sum()).iter_rows())
    answers = answers.drop_nulls("label")
    labels = largest(answers.group_by("label").agg(pl.col("decisions").sum()), "decisions", "label")
    names = TASKS[task].names if task in TASKS else {}
    return {
        "task": task,
        "decisions": total(labels, "decisions"),
        "score": answers.select(mean).item(),
        "by_day": by_day(answers, mean)["y"],
        "label": names.get(labels["label"][0], labels["label"][0]) if labels.height else None,
        "share": labels["decisions"][0] / total(labels, "decisions") if labels.height else None,
        "shift": shift(answers),
        **{reason: abstained.get(reason, 0) for reason in (LANGUAGE, NO_TEXT, NOT_SURE)},
    }


def shift(answers: pl.DataFrame) -> float | None:
    """Return the share of answers on other labels in the last half of the days than in the first."""
    first, last = halves(answers[DAY])
    if first.is_empty():
        return None
    shares = [
        answers.filter(pl.col(DAY).is_in(days.implode()))
        .group_by("label")
        .agg(pl.col("decisions").sum())
        .with_columns(share=pl.col("decisions") / pl.col("decisions").sum())
        for days in (first, last)
    ]
    joined = shares[0].join(shares[1], on="label", how="full", coalesce=True, suffix="_last")
    return joined.select((pl.col("share").fill_null(0) - pl.col("share_last").fill_null(0)).abs().sum() / 2).item()
