"""One row is one task on one day: drift of its texts and answers, and calibration of its scores.

The day is the window. The measured version is the champion, or the newest that answered if the champion did not; a
later champion does not change the row. ``input_drift`` compares the texts with those that trained the version,
``category_drift`` its labels with its labels on held-out rows, ``prediction_drift`` its labels and scores with those of
its earlier windows. Each drifts beyond its limit (``signals/models/drift.py``). ``drifted`` is null where nothing can
be measured, and ``finding`` says why. Calibration compares the day's labels with answers about documents of the last 28
days; labels that trained the version do not count. A label's delay runs from its document to the label, in seconds. At
most ``MAX_TEXTS`` texts of a day are measured, each encoded in the last 28 days.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.silver import decisions, embeddings, labels
from resources.encoder import Encoder
from resources.lakehouse.days import DAY, days_of
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from signals.classify import DOCUMENT_KEY
from signals.models.drift import Measure, Reference, divergence, shift
from signals.models.heads import Floats
from signals.models.metrics import calibration_error, reliability
from signals.tasks import TASKS

TABLE = "operations/drift"
INPUTS = (decisions.TABLE, labels.TABLE)
# Column with the time of each kind of document.
TIME_COLUMNS = {"page": "fetched_at", "message": "sent_at", "image": "fetched_at"}
# Fewer documents, vectors, held-out rows or labelled documents are not measured.
MIN_ROWS = 50
# Texts per day whose vectors are read.
MAX_TEXTS = 2_000
LOOK_BACK = timedelta(days=28)
# Bins of the score in which answers are counted.
SCORE_STEPS = 5
MEASURES = ("input", "category", "prediction")
# A task drifts if at least ``MIN_DRIFTED`` of its last ``WINDOWS`` do, the latest among them.
WINDOWS, MIN_DRIFTED = 5, 3
TIME = pl.Datetime("us", "UTC")
SCHEMA = {
    DAY: pl.Date,
    "task": pl.String,
    "model_version": pl.Int64,
    "documents": pl.Int64,
    "answered_at": TIME,
    "mean_score": pl.Float64,
    **{f"{name}_{part}": pl.Float64 for name in MEASURES for part in ("drift", "limit")},
    "drifted": pl.Boolean,
    "finding": pl.String,
    "labels": pl.Int64,
    "label_delay_p50": pl.Float64,
    "label_delay_p95": pl.Float64,
    "labelled": pl.Int64,
    "confidence": pl.Float64,
    "accuracy": pl.Float64,
    "calibration_error": pl.Float64,
    "answers": pl.List(pl.Struct({"label": pl.String, "step": pl.Int64, "documents": pl.Int64})),
    "reliability": pl.List(pl.Struct({"rows": pl.Float64, "confidence": pl.Float64, "right": pl.Float64})),
}
Row = dict[str, Any]


@dg.asset(
    **table_spec(
        TABLE,
        __doc__,
        inputs=INPUTS,
        deps=[embeddings.TABLE, *decisions.DOCUMENTS.values(), *decisions.MODELS],
    )
)
def drift(
    context: dg.AssetExecutionContext,
    lakehouse: dg.ResourceParam[Lakehouse],
    encoder: dg.ResourceParam[Encoder],
    registry: dg.ResourceParam[Registry],
) -> dg.MaterializeResult:
    """Measure each task on each of these days that has answers or labels."""
    write = start(context, lakehouse, TABLE, INPUTS)
    versions = registry.for_encoder(encoder.digest).versions_by_task(every_encoder=True)
    versions = {task: versions[task] for task in TASKS}
    input_days = {day for table in INPUTS for day in lakehouse.days(table)}
    measured = [row for day in write.days if day in input_days for row in windows(lakehouse, encoder, versions, day)]
    rows = with_prediction_drift(measured, stored_rows(lakehouse, write.days), date.fromisoformat(min(write.days)))
    lakehouse.replace_days(TABLE, sorted({*write.days, *days_of(rows)}), rows, checkpoints=write.checkpoints)
    new_rows = rows.filter(pl.col(DAY).cast(pl.String).is_in(write.days))
    drifting = new_rows.filter("drifted").select(DAY, "task").rows()
    return write.result(
        {
            "windows_measured": new_rows["drifted"].count(),
            "windows_not_measured": new_rows["drifted"].null_count(),
            "drift": [f"{day} {task}" for day, task in drifting],
        },
        rows_out=new_rows.height,
    )


def windows(
    lakehouse: Lakehouse, encoder: Encoder, versions: Mapping[str, Sequence[ModelVersion]], day: str
) -> Iterator[Row]:
    """Yield the rows of a day, without prediction drift."""
    answers = (
        lakehouse.scan(decisions.TABLE, [day])
        .drop_nulls("label")
        .select(*DOCUMENT_KEY, "task", "label", "score", "model_version", "traffic_arm", "decided_at")
    )
    # Sorted, because the last digits of a mean depend on the order of the rows.
    answers = answers.sort("task", *DOCUMENT_KEY, "model_version").collect()
    vectors = sample_vectors(lakehouse, encoder, answers["content_hash"])
    measured = {
        task: measured_version(task_versions, answers.filter(pl.col("task") == task))
        for task, task_versions in versions.items()
    }
    labels_of_day = with_answers(lakehouse, labels_with_delay(lakehouse, day), measured, day)
    for task, version in measured.items():
        number = None if version is None else version.version
        own = answers.filter(pl.col("task") == task, pl.col("model_version") == pl.lit(number, pl.Int64))
        task_labels = labels_of_day.filter(pl.col("task") == task)
        if own.height or task_labels.height:
            comparable = version is not None and version.transform_id == encoder.transform_id
            texts = _matrix(vectors.join(own, on="content_hash", how="semi", maintain_order="left"))
            row = {DAY: date.fromisoformat(day), "task": task, "model_version": number}
            reference = version.reference if comparable else None
            yield row | document_metrics(own, texts, reference) | label_metrics(task_labels)


def measured_version(versions: Sequence[ModelVersion], answers: pl.DataFrame) -> ModelVersion | None:
    """Return the version to measure on a task's answers of a day: the champion, unless only others answered."""
    numbers = set(answers["model_version"])
    champion = next((version for version in versions if version.champion), None)
    if champion is not None and (champion.version in numbers or not numbers):
        return champion
    return next((version for version in versions if version.version in numbers), None)


def sample_vectors(lakehouse: Lakehouse, encoder: Encoder, hashes: pl.Series) -> pl.DataFrame:
    """Return content_hash and vector of at most ``MAX_TEXTS`` texts, those with the smallest hashes."""
    sample = hashes.unique().sort().head(MAX_TEXTS).to_frame("content_hash")
    return embeddings.stored_vectors(lakehouse, sample, encoder.encoder_id).sort("content_hash")


def labels_with_delay(lakehouse: Lakehouse, day: str) -> pl.DataFrame:
    """Return a day's latest label of each text and task, and its delay in seconds.

    The delay runs from the last document before the label that has the text or image; null without one.
    """
    rows = lakehouse.scan(labels.TABLE, [day]).filter(pl.col("task").is_in(list(TASKS)))
    latest = rows.sort("labelled_at", "label_id").unique(["task", "content_hash"], keep="last").collect()
    parts = [
        lakehouse.scan(table, _look_back_days(day)).select("content_hash", at=pl.col(TIME_COLUMNS[kind]))
        for kind, table in decisions.DOCUMENTS.items()
    ]
    of_labels = pl.col("content_hash").is_in(latest["content_hash"].implode())
    documents = pl.concat(parts).filter(of_labels).sort("at").collect()
    joined = latest.sort("labelled_at").join_asof(
        documents, left_on="labelled_at", right_on="at", by="content_hash", check_sortedness=False
    )
    delay = (pl.col("labelled_at") - pl.col("at")).dt.total_microseconds() / 1e6
    return joined.select("task", "content_hash", "split", "received_at", y_true="label", delay=delay)


def with_answers(
    lakehouse: Lakehouse, labels_of_day: pl.DataFrame, measured: Mapping[str, ModelVersion | None], day: str
) -> pl.DataFrame:
    """Return labels beside the measured version's answers, except labels that it was trained on."""
    versions = pl.DataFrame(
        [(task, version.version, version.trained_at) for task, version in measured.items() if version is not None],
        schema={"task": pl.String, "model_version": pl.Int64, "trained_at": TIME},
        orient="row",
    )
    unseen = (pl.col("split") == "val") | (pl.col("received_at") > pl.col("trained_at"))
    labelled = labels_of_day.join(versions, on="task").filter(unseen)
    decided = (
        lakehouse.scan(decisions.TABLE, _look_back_days(day))
        .filter(pl.col("label").is_not_null())
        .filter(pl.col("content_hash").is_in(labelled["content_hash"].unique().implode()))
        .select("task", "content_hash", "model_version", "label", "score")
        .unique(["task", "content_hash", "model_version"])
        .collect()
    )
    key = ["task", "content_hash"]
    answers = labelled.select(*key, "model_version").join(decided, on=[*key, "model_version"])
    return labels_of_day.join(answers, on=key, how="left").sort(key)


def document_metrics(answers: pl.DataFrame, vectors: Floats, reference: Reference | None) -> Row:
    """Return the metrics of a version's answers and texts of a day, compared with its reference."""
    steps = (pl.col("score") * SCORE_STEPS).floor().clip(0, SCORE_STEPS - 1).cast(pl.Int64)
    counts = answers.group_by("label", step=steps).agg(documents=pl.len().cast(pl.Int64)).sort("label", "step")
    measures: dict[str, Measure | None] = {"input": None, "category": None}
    if reference is not None and min(len(vectors), reference.rows) >= MIN_ROWS and reference.roughness > 0:
        measures["input"] = shift(vectors, reference)
    if reference is not None and min(answers.height, sum(reference.answers.values())) >= MIN_ROWS:
        measures["category"] = divergence(Counter(answers["label"]), reference.answers)
    return {
        "documents": answers.height,
        "answered_at": answers["decided_at"].max(),
        "mean_score": answers["score"].mean(),
        "answers": counts.to_dicts(),
        **{key: value for name, measure in measures.items() for key, value in _columns(name, measure).items()},
    }


def label_metrics(rows: pl.DataFrame) -> Row:
    """Return the metrics of a day's labels: their delay, and accuracy and calibration of the answers.

    Args:
        rows: the labels of one task (see ``with_answers``).
    """
    answered = rows.filter(pl.col("label").is_not_null())
    correct = (answered["label"] == answered["y_true"]).to_numpy()
    bins = reliability(answered["score"].to_numpy(), correct)
    return {
        "labels": rows.height,
        "label_delay_p50": rows["delay"].quantile(0.5, "linear"),
        "label_delay_p95": rows["delay"].quantile(0.95, "linear"),
        "labelled": answered.height,
        "confidence": answered["score"].mean(),
        "accuracy": float(correct.mean()) if answered.height else None,
        "calibration_error": calibration_error(bins) if answered.height >= MIN_ROWS else None,
        "reliability": [dict(zip(("rows", "confidence", "right"), row, strict=True)) for row in bins.tolist()],
    }


def stored_rows(lakehouse: Lakehouse, days: Sequence[str]) -> list[Row]:
    """Return the table's rows of other days within the look-back of some days, on either side."""
    if not lakehouse.exists(TABLE):
        return []
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    in_look_back = pl.col(DAY).is_between(first - LOOK_BACK, last + LOOK_BACK)
    return lakehouse.scan(TABLE).filter(in_look_back, ~pl.col(DAY).cast(pl.String).is_in(days)).collect().to_dicts()


def with_prediction_drift(measured: Iterable[Row], stored: Iterable[Row], first: date) -> pl.DataFrame:
    """Return rows from a day on, compared with the earlier windows of their version.

    Args:
        measured: see ``windows``.
        stored: see ``stored_rows``.
        first: the day; earlier rows do not change, and are not returned.
    """
    series, rows = defaultdict(list), []
    for row in sorted([*stored, *measured], key=lambda row: row[DAY]):
        series[row["task"], row["model_version"]].append(row)
    for windows_of_version in series.values():
        for index, row in enumerate(windows_of_version):
            if row[DAY] >= first:
                before = windows_of_version[max(index - LOOK_BACK.days, 0) : index]
                earlier = sum((_counts(window) for window in before if window[DAY] >= row[DAY] - LOOK_BACK), Counter())
                enough = min(row["documents"], earlier.total()) >= MIN_ROWS
                rows.append(row | _columns("prediction", divergence(_counts(row), earlier) if enough else None))
    return pl.DataFrame([row | finding(row) for row in rows], schema=SCHEMA).sort(DAY, "task")


def finding(row: Row) -> Row:
    """Return whether a window has drifted, and in one line in which measures, with the numbers."""
    measured = [name for name in MEASURES if row[f"{name}_drift"] is not None]
    if not measured:
        reason = f"version {row['model_version']} has no reference of {MIN_ROWS} rows to compare with"
        if row["documents"] < MIN_ROWS:
            reason = f"{row['documents']} documents of {MIN_ROWS}"
        return {"drifted": None, "finding": f"not measured: {reason}"}
    drifted = [name for name in measured if row[f"{name}_drift"] > row[f"{name}_limit"]]
    numbers = ", ".join(f"{name} {row[f'{name}_drift']:.2f} of {row[f'{name}_limit']:.2f}" for name in measured)
    summary = f"drift of {' and '.join(drifted)}" if drifted else "no drift"
    return {"drifted": bool(drifted), "finding": f"{summary}: {numbers}"}


def latest_windows(lakehouse: Lakehouse, before: date, most: int) -> pl.DataFrame:
    """Return task, model_version, answered_at and drifted of the last days before a day; reads no others."""
    columns = ("task", "model_version", "answered_at", "drifted")
    days = [day for day in lakehouse.days(TABLE) if day < before.isoformat()][-most:]
    if not days:
        return pl.DataFrame(schema={name: SCHEMA[name] for name in columns})
    rows = lakehouse.scan(TABLE).filter(pl.col(DAY).is_in([date.fromisoformat(day) for day in days]))
    return rows.sort(DAY).select(columns).collect()


def _columns(name: str, measure: Measure | None) -> Row:
    return {f"{name}_drift": measure and measure.value, f"{name}_limit": measure and measure.limit}


def _counts(row: Row) -> Counter[tuple[str, int]]:
    return Counter({(answer["label"], answer["step"]): answer["documents"] for answer in row["answers"]})


def _matrix(vectors: pl.DataFrame) -> Floats:
    known = vectors["vector"].drop_nulls()
    return np.array(known.to_list(), np.float32).reshape(len(known), -1 if len(known) else 0)


def _look_back_days(day: str) -> list[str]:
    """Return the days of the look-back of a day, itself included."""
    last = date.fromisoformat(day)
    return [(last - timedelta(days=back)).isoformat() for back in range(LOOK_BACK.days + 1)]
