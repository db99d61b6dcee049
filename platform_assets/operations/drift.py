"""One row is how one task was answered on one day: of how unlike documents to those that taught, and how rightly.

The window is that day. Measured is the champion, or where it was not asked the newest version that answered; a later
champion does not change the row. ``input_drift`` is of the texts against those that trained the version,
``category_drift`` of its labels against its labels on held-out rows, ``prediction_drift`` of labels and scores against
those of its earlier windows; each has drifted beyond its limit (``signals/models/drift.py``). ``drifted`` is null where
nothing could be measured; ``finding`` says why. Calibration is of what labels of the day say about documents of the
last 28 days, and only labels that the version was not trained on. The delay of a label runs from its document to when
it was given, in seconds. Of a day's texts, as many as ``MOST`` are measured, and only those that first came in the last
28 days.
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
from signals.models.encoder import DIMENSIONS
from signals.models.heads import Floats
from signals.models.metrics import calibration_error, reliability
from signals.tasks import TASKS

TABLE = "operations/drift"
INPUTS = (decisions.TABLE, labels.TABLE)
# When a document of each kind was made or fetched.
MOMENTS = {"page": "fetched_at", "message": "sent_at", "image": "fetched_at"}
# Fewer documents, vectors, held-out rows or labelled documents than this are not measured.
LEAST = 50
# Texts of a day whose vectors are read.
MOST = 2_000
LOOK_BACK = timedelta(days=28)
# Steps of the score in which answers are counted.
STEPS = 5
MEASURES = ("input", "category", "prediction")
# A task drifts if so many of its last windows do, and the latest of them.
WINDOWS, DRIFTED = 5, 3
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
    every = registry.for_encoder(encoder.digest).versions_by_task(every_encoder=True)
    versions = {task: every[task] for task in TASKS}
    known = {day for table in INPUTS for day in lakehouse.days(table)}
    measured = [row for day in write.days if day in known for row in windows(lakehouse, encoder, versions, day)]
    rows = beside_earlier(measured, stored(lakehouse, write.days), date.fromisoformat(min(write.days)))
    lakehouse.replace_days(TABLE, sorted({*write.days, *days_of(rows)}), rows, checkpoints=write.checkpoints)
    fresh = rows.filter(pl.col(DAY).cast(pl.String).is_in(write.days))
    drifting = fresh.filter("drifted").select(DAY, "task").rows()
    return write.result(
        {
            "windows_measured": fresh["drifted"].count(),
            "windows_not_measured": fresh["drifted"].null_count(),
            "drift": [f"{day} {task}" for day, task in drifting],
        },
        rows_out=fresh.height,
    )


def windows(
    lakehouse: Lakehouse, encoder: Encoder, versions: Mapping[str, Sequence[ModelVersion]], day: str
) -> Iterator[Row]:
    """Yield the rows of a day, but for what compares them with earlier ones."""
    asked = lakehouse.scan(decisions.TABLE, [day]).select(
        *DOCUMENT_KEY, "task", "label", "score", "model_version", "traffic_arm", "decided_at"
    )
    # A mean depends on the order in its last digits, and a table gives its rows in any.
    asked, judged = asked.sort("task", *DOCUMENT_KEY, "model_version").collect(), came(lakehouse, day)
    vectors = sampled(lakehouse, encoder, asked["content_hash"])
    measured = {task: version_of(of, asked.filter(pl.col("task") == task)) for task, of in versions.items()}
    judged = answered(lakehouse, judged, measured, day)
    for task, version in measured.items():
        number = None if version is None else version.version
        own = asked.filter(pl.col("task") == task, pl.col("model_version") == pl.lit(number, pl.Int64))
        about = judged.filter(pl.col("task") == task)
        if own.height or about.height:
            comparable = version is not None and version.transform_id == encoder.transform_id
            texts = _matrix(vectors.join(own, on="content_hash", how="semi", maintain_order="left"))
            row = {DAY: date.fromisoformat(day), "task": task, "model_version": number}
            yield row | of_documents(own, texts, version.reference if comparable else None) | of_labels(about)


def version_of(versions: Sequence[ModelVersion], asked: pl.DataFrame) -> ModelVersion | None:
    """Return the version that is measured on a task's answers of a day: the champion, unless only others answered."""
    numbers = set(asked["model_version"])
    champion = next((one for one in versions if one.champion), None)
    if champion is not None and (champion.version in numbers or not numbers):
        return champion
    return next((one for one in versions if one.version in numbers), None)


def sampled(lakehouse: Lakehouse, encoder: Encoder, hashes: pl.Series) -> pl.DataFrame:
    """Return content_hash and vector of texts; where there are many, of those with the least hashes."""
    wanted = hashes.unique().sort().head(MOST).implode()
    stored = lakehouse.scan(embeddings.TABLE).filter(
        pl.col("encoder_id") == encoder.encoder_id, pl.col("content_hash").is_in(wanted)
    )
    return stored.select("content_hash", "vector").unique("content_hash").sort("content_hash").collect()


def came(lakehouse: Lakehouse, day: str) -> pl.DataFrame:
    """Return the labels of a day, the latest of each text and task, and the seconds since its document.

    That is the last before the label that holds the text, or the picture; without one there is no delay.
    """
    given = lakehouse.scan(labels.TABLE, [day]).filter(pl.col("task").is_in(list(TASKS)))
    latest = given.sort("labelled_at", "label_id").unique(["task", "content_hash"], keep="last").collect()
    parts = [
        lakehouse.scan(table, _until(day)).select("content_hash", at=pl.col(MOMENTS[kind]))
        for kind, table in decisions.DOCUMENTS.items()
    ]
    of_labels = pl.col("content_hash").is_in(latest["content_hash"].implode())
    moments = pl.concat(parts).filter(of_labels).sort("at").collect()
    found = latest.sort("labelled_at").join_asof(
        moments, left_on="labelled_at", right_on="at", by="content_hash", check_sortedness=False
    )
    delay = (pl.col("labelled_at") - pl.col("at")).dt.total_microseconds() / 1e6
    return found.select("task", "content_hash", "split", "received_at", right="label", delay=delay)


def answered(
    lakehouse: Lakehouse, judged: pl.DataFrame, measured: Mapping[str, ModelVersion | None], day: str
) -> pl.DataFrame:
    """Return labels with what the measured version answered, where it did and was not trained on the label."""
    versions = pl.DataFrame(
        [(task, one.version, one.trained_at) for task, one in measured.items() if one is not None],
        schema={"task": pl.String, "model_version": pl.Int64, "trained_at": TIME},
        orient="row",
    )
    unseen = (pl.col("split") == "val") | (pl.col("received_at") > pl.col("trained_at"))
    asked = judged.join(versions, on="task").filter(unseen)
    found = (
        lakehouse.scan(decisions.TABLE, _until(day))
        .filter(pl.col("content_hash").is_in(asked["content_hash"].unique().implode()))
        .select("task", "content_hash", "model_version", "label", "score")
        .unique(["task", "content_hash", "model_version"])
        .collect()
    )
    key = ["task", "content_hash"]
    answers = asked.select(*key, "model_version").join(found, on=[*key, "model_version"])
    return judged.join(answers, on=key, how="left").sort(key)


def of_documents(asked: pl.DataFrame, vectors: Floats, reference: Reference | None) -> Row:
    """Return what a version's answers of a day, and the vectors of its texts, say beside its reference."""
    steps = (pl.col("score") * STEPS).floor().clip(0, STEPS - 1).cast(pl.Int64)
    answers = asked.group_by("label", step=steps).agg(documents=pl.len().cast(pl.Int64)).sort("label", "step")
    found: dict[str, Measure | None] = {"input": None, "category": None}
    if reference is not None and min(len(vectors), reference.rows) >= LEAST and reference.roughness > 0:
        found["input"] = shift(vectors, reference)
    if reference is not None and min(asked.height, sum(reference.answers.values())) >= LEAST:
        found["category"] = divergence(Counter(asked["label"]), reference.answers)
    return {
        "documents": asked.height,
        "answered_at": asked["decided_at"].max(),
        "mean_score": asked["score"].mean(),
        "answers": answers.to_dicts(),
        **{key: value for name, measure in found.items() for key, value in _columns(name, measure).items()},
    }


def of_labels(judged: pl.DataFrame) -> Row:
    """Return what the labels of a day say: how long they took, and how sure and right answers about their texts were.

    Args:
        judged: what ``answered`` returned of one task.
    """
    known = judged.filter(pl.col("label").is_not_null())
    right = (known["label"] == known["right"]).to_numpy()
    bins = reliability(known["score"].to_numpy(), right)
    return {
        "labels": judged.height,
        "label_delay_p50": judged["delay"].quantile(0.5, "linear"),
        "label_delay_p95": judged["delay"].quantile(0.95, "linear"),
        "labelled": known.height,
        "confidence": known["score"].mean(),
        "accuracy": float(right.mean()) if known.height else None,
        "calibration_error": calibration_error(bins) if known.height >= LEAST else None,
        "reliability": [dict(zip(("rows", "confidence", "right"), of, strict=True)) for of in bins.tolist()],
    }


def stored(lakehouse: Lakehouse, days: Sequence[str]) -> list[Row]:
    """Return the rows that days are compared with, and those that are compared with them, as the table has them."""
    if not lakehouse.exists(TABLE):
        return []
    first, last = (date.fromisoformat(of(days)) for of in (min, max))
    near = pl.col(DAY).is_between(first - LOOK_BACK, last + LOOK_BACK)
    return lakehouse.scan(TABLE).filter(near, ~pl.col(DAY).cast(pl.String).is_in(days)).collect().to_dicts()


def beside_earlier(measured: Iterable[Row], kept: Iterable[Row], first: date) -> pl.DataFrame:
    """Return rows from a day on compared with the earlier windows of their version.

    Args:
        measured: what ``windows`` yielded.
        kept: what ``stored`` returned.
        first: the day; earlier rows stay as they are, and are not returned.
    """
    series, found = defaultdict(list), []
    for row in sorted([*kept, *measured], key=lambda row: row[DAY]):
        series[row["task"], row["model_version"]].append(row)
    for of in series.values():
        for place, row in enumerate(of):
            if row[DAY] >= first:
                near = (one for one in of[max(place - LOOK_BACK.days, 0) : place] if one[DAY] >= row[DAY] - LOOK_BACK)
                earlier = sum(map(_counts, near), Counter())
                enough = min(row["documents"], earlier.total()) >= LEAST
                found.append(row | _columns("prediction", divergence(_counts(row), earlier) if enough else None))
    return pl.DataFrame([row | verdict(row) for row in found], schema=SCHEMA).sort(DAY, "task")


def verdict(row: Row) -> Row:
    """Return whether a window has drifted, and a line that says in what, with the numbers."""
    known = [name for name in MEASURES if row[f"{name}_drift"] is not None]
    if not known:
        few = row["documents"] < LEAST
        kept = f"version {row['model_version']} has no reference of {LEAST} rows to compare with"
        why = f"{row['documents']} documents of {LEAST}" if few else kept
        return {"drifted": None, "finding": f"not measured: {why}"}
    over = [name for name in known if row[f"{name}_drift"] > row[f"{name}_limit"]]
    said = ", ".join(f"{name} {row[f'{name}_drift']:.2f} of {row[f'{name}_limit']:.2f}" for name in known)
    what = f"drift of {' and '.join(over)}" if over else "no drift"
    return {"drifted": bool(over), "finding": f"{what}: {said}"}


def latest(lakehouse: Lakehouse, before: date, most: int) -> pl.DataFrame:
    """Return task, model_version, answered_at and drifted of the last days that are over; reads no others."""
    columns = ("task", "model_version", "answered_at", "drifted")
    days = [day for day in lakehouse.days(TABLE) if day < before.isoformat()][-most:]
    if not days:
        return pl.DataFrame(schema={name: SCHEMA[name] for name in columns})
    rows = lakehouse.scan(TABLE).filter(pl.col(DAY).is_in([date.fromisoformat(day) for day in days]))
    return rows.sort(DAY).select(columns).collect()


def _columns(name: str, measure: Measure | None) -> Row:
    return {f"{name}_drift": measure and measure.value, f"{name}_limit": measure and measure.limit}


def _counts(row: Row) -> Counter[tuple[str, int]]:
    return Counter({(of["label"], of["step"]): of["documents"] for of in row["answers"]})


def _matrix(vectors: pl.DataFrame) -> Floats:
    return vectors["vector"].explode().drop_nulls().to_numpy().reshape(-1, DIMENSIONS).astype(np.float32)


def _until(day: str) -> list[str]:
    """Return the days up to one from which its documents, texts and labels are looked for."""
    last = date.fromisoformat(day)
    return [(last - timedelta(days=back)).isoformat() for back in range(LOOK_BACK.days + 1)]
