from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.gates.promotion import Verdict
from platform_assets.operations.drift import (
    INPUTS,
    MIN_ROWS,
    SCHEMA,
    TABLE,
    TIME_COLUMNS,
    drift,
    latest_windows,
    with_prediction_drift,
)
from platform_assets.silver import embeddings
from platform_assets.silver.decisions import DOCUMENTS
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from resources.registry.versions import REFERENCE
from signals.models.drift import reference
from signals.models.encoder import DIMENSIONS

FIRST = date(2026, 11, 9)
TASK = "sentiment"
TIME = pl.Datetime("us", "UTC")
DOCUMENT = {"tenant_id": pl.String, "document_id": pl.String, "content_hash": pl.String, DAY: pl.Date}
DECISION = DOCUMENT | {
    "task": pl.String, "label": pl.String, "score": pl.Float64, "model_version": pl.Int64, "traffic_arm": pl.String,
    "decided_at": TIME,
}  # fmt: skip
LABEL = {
    "label_id": pl.String, "task": pl.String, "content_hash": pl.String, "label": pl.String, "split": pl.String,
    "labelled_at": TIME, "received_at": TIME, DAY: pl.Date,
}  # fmt: skip
SHARES = {"negative": 0.3, "neutral": 0.5, "positive": 0.2}
OTHER = {"negative": 0.8, "neutral": 0.1, "positive": 0.1}


def day(number):
    return FIRST + timedelta(days=number)


def at(number, hour=8):
    return datetime.combine(day(number), datetime.min.time(), UTC) + timedelta(hours=hour)


def vectors(chance, rows, moved=0.0):
    found = chance.normal(size=(rows, DIMENSIONS)) / DIMENSIONS**0.5
    found[:, 0] += moved
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
    return Encoder()


@pytest.fixture
def lake(tmp_path):
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    for kind, table in DOCUMENTS.items():
        lake.replace_all(table, pl.DataFrame(schema=DOCUMENT | {TIME_COLUMNS[kind]: TIME}))
    lake.insert_missing("silver/decisions", pl.DataFrame(schema=DECISION), ["document_id"])
    lake.insert_missing("silver/labels", pl.DataFrame(schema=LABEL), ["label_id"])
    lake.insert_missing(embeddings.TABLE, pl.DataFrame(schema=embeddings.SCHEMA), embeddings.KEY)
    return lake


@pytest.fixture
def champion(registry, encoder, tmp_path):
    """Return a function that makes a version champion, with what trained it unless it is to have none."""

    def make(*, kept=True, task=TASK):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "model.json").write_text(f"{len(registry.versions(task))}")
        trained = reference(vectors(np.random.default_rng(0), 500), {name: int(200 * s) for name, s in SHARES.items()})
        record = {"transform_id": encoder.transform_id} | ({REFERENCE: trained.dump()} if kept else {})
        one = registry.register(task, tmp_path / "model", {}, record)
        registry.judge(one, Verdict(passed=True, why="good"))
        promotion.promote(registry, task, one.version, by="test", why="test")
        return registry.champion(task)

    return make


@pytest.fixture
def answer(lake, encoder):
    """Return a function by which documents of a day are answered."""

    def answer(number, rows=100, *, moved=0.0, shares=SHARES, version=1, score=0.7, arm="champion"):
        chance = np.random.default_rng(number + 1)
        told = chance.choice(list(shares), rows, p=list(shares.values()))
        ids = [f"{number}-{version}-{rows}-{i}" for i in range(rows)]
        texts = pl.DataFrame({"document_id": ids, "content_hash": ids}).with_columns(
            pl.lit("acme").alias("tenant_id"), pl.lit(day(number)).alias(DAY)
        )
        lake.insert_missing("silver/messages", texts.with_columns(sent_at=pl.lit(at(number))), ["document_id"])
        made = embeddings.rows_of(texts, vectors(chance, rows, moved), encoder.encoder_id)
        lake.insert_missing(embeddings.TABLE, made, embeddings.KEY)
        decided = texts.with_columns(
            task=pl.lit(TASK), label=pl.Series(told), score=pl.lit(score), model_version=pl.lit(version, pl.Int64),
            traffic_arm=pl.lit(arm), decided_at=pl.lit(at(number, 9)),
        )  # fmt: skip
        lake.insert_missing("silver/decisions", decided, ["document_id", "model_version"])
        return decided

    return answer


@pytest.fixture
def label(lake):
    def label(number, decided, right, *, split="val", hours=2, received=None):
        rows = decided.select("content_hash", "task").with_columns(
            label=pl.Series(right), split=pl.lit(split), labelled_at=pl.lit(at(number) + timedelta(hours=hours)),
            received_at=pl.lit(received or at(number)), label_id=pl.concat_str("content_hash", pl.lit(f"-{hours}")),
        )  # fmt: skip
        when = pl.col("labelled_at").dt.date().alias(DAY)
        lake.insert_missing("silver/labels", rows.with_columns(when), ["label_id"])

    return label


@pytest.fixture
def measured(lake, encoder, registry):
    """Return a function that measures a range of days, and returns all rows of the table."""

    def measure(first=0, last=9):
        ends = {"start": day(first), "end": day(last)}
        tags = {f"dagster/asset_partition_range_{end}": str(of) for end, of in ends.items()}
        resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
        with dg.DagsterInstance.ephemeral() as instance:
            assert dg.materialize([drift], resources=resources, tags=tags, instance=instance).success
        return lake.read(TABLE).sort(DAY, "task")

    return measure


def window(number, version, negative):
    answers = [
        {"label": "negative", "step": 3, "documents": negative},
        {"label": "neutral", "step": 3, "documents": 40},
    ]
    figures = dict.fromkeys(f"{name}_{part}" for name in ("input", "category") for part in ("drift", "limit"))
    about = {"task": TASK, "model_version": version, "documents": negative + 40, "answers": answers}
    return dict.fromkeys(SCHEMA) | figures | about | {DAY: day(number)}


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 2), st.integers(0, 60)),
        unique_by=lambda one: one[0],
        min_size=1,
        max_size=8,
    ),
    st.data(),
)
def test_whichever_days_are_measured_again_the_rows_are_those_of_all_at_once(known, data):
    rows = [window(*one) for one in known]
    every = with_prediction_drift(rows, [], FIRST)
    again = data.draw(st.lists(st.sampled_from(rows), min_size=1, unique_by=lambda row: row[DAY]))
    first = min(row[DAY] for row in again)
    kept = [row for row in every.to_dicts() if row[DAY] not in {one[DAY] for one in again}]
    assert with_prediction_drift(again, kept, first).equals(every.filter(pl.col(DAY) >= first))
    assert every.filter(pl.col("documents") < MIN_ROWS)["drifted"].null_count() == sum(
        one[2] + 40 < MIN_ROWS for one in known
    )


@pytest.mark.slow
def test_days_like_those_that_trained_do_not_drift_and_others_do(champion, answer, measured):
    champion()
    for number in range(3):
        answer(number)
    answer(3, moved=0.6)
    answer(4, shares=OTHER)
    rows = measured()
    assert rows.select("task", "model_version", "documents").unique().rows() == [(TASK, 1, 100)]
    assert rows["drifted"].to_list() == [False, False, False, True, True]
    names = ("input", "category", "prediction")
    passed = [
        [name for name in names if row[f"{name}_drift"] and row[f"{name}_drift"] > row[f"{name}_limit"]]
        for row in rows.rows(named=True)
    ]
    assert passed == [[], [], [], ["input"], ["category", "prediction"]]
    assert rows["input_drift"][3] == pytest.approx(0.6, abs=0.1)
    assert rows["finding"][4].startswith("drift of category and prediction: input 0.")
    assert rows["prediction_drift"].null_count() == 1
    assert rows["answered_at"][4] == at(4, 9)


@pytest.mark.slow
def test_what_cannot_be_measured_says_why_and_raises_nothing(champion, answer, measured):
    champion(kept=False)
    answer(0, rows=MIN_ROWS - 1, moved=3.0, shares=OTHER)
    answer(1, moved=3.0)
    rows = measured()
    assert rows["drifted"].to_list() == [None, None]
    assert rows["finding"].to_list() == [
        f"not measured: {MIN_ROWS - 1} documents of {MIN_ROWS}",
        f"not measured: version 1 has no reference of {MIN_ROWS} rows to compare with",
    ]


@pytest.mark.slow
def test_labels_say_how_right_and_sure_answers_were_that_they_did_not_train(lake, champion, answer, label, measured):
    version = champion()
    decided = answer(0, score=0.7)
    wrong = ["neutral" if told == "negative" else "negative" for told in decided["label"]]
    label(0, decided.head(60), [*decided["label"][:30], *wrong[30:60]])
    label(0, decided[60:70], wrong[60:70], split="train")
    label(0, decided[70:80], wrong[70:80], split="train", hours=30, received=version.trained_at + timedelta(hours=1))
    again = pl.DataFrame({"document_id": ["x", "y"], "content_hash": [decided["content_hash"][0]] * 2})
    moments = again.with_columns(sent_at=pl.Series([at(0, 7), at(0, 23)]), event_date=pl.lit(day(0)))
    lake.insert_missing("silver/messages", moments, ["document_id"])
    first, second = measured().rows(named=True)
    assert (first["labels"], first["labelled"], first["accuracy"]) == (70, 60, 0.5)
    assert first["confidence"] == pytest.approx(0.7)
    assert first["calibration_error"] == pytest.approx(0.2)
    assert (first["label_delay_p50"], first["label_delay_p95"]) == (7_200, 7_200)
    # They came on the day after, on which nothing was asked, and after the training.
    assert (second[DAY], second["documents"], second["labels"], second["labelled"]) == (day(1), 0, 10, 10)
    assert (second["accuracy"], second["calibration_error"], second["label_delay_p95"]) == (0.0, None, 30 * 3_600)
    assert sum(of["rows"] for of in first["reliability"]) == 60


@pytest.mark.slow
def test_the_order_in_which_tables_give_their_rows_changes_no_figure(lake, champion, answer, label, measured):
    champion()
    decided = answer(0)
    label(0, decided, decided["label"].to_list())
    scores = np.random.default_rng(0).random(decided.height)
    rows = lake.read("silver/decisions").with_columns(score=pl.Series(scores))
    found = []
    for seed in range(4):
        lake.replace_all("silver/decisions", rows.sample(fraction=1.0, shuffle=True, seed=seed))
        found.append(measured(0, 0))
    assert found[0]["mean_score"].item() == pytest.approx(scores.mean())
    assert all(one.equals(found[0]) for one in found)


@pytest.mark.slow
def test_only_days_whose_answers_or_labels_changed_are_measured_again(lake, champion, answer, label, measured):
    champion()
    decided = [answer(number) for number in range(3)]
    once = measured()
    assert stale_days(lake, TABLE, INPUTS) == []
    assert measured().equals(once)
    label(2, decided[2].head(3), decided[2]["label"][:3])
    assert stale_days(lake, TABLE, INPUTS) == [str(day(2))]
    answer(0, rows=80, shares=OTHER)
    assert stale_days(lake, TABLE, INPUTS) == [str(day(0)), str(day(2))]
    after = measured(0, 0)
    assert stale_days(lake, TABLE, INPUTS) == [str(day(2))]
    # The days after are compared with it, and nothing else of them has changed.
    assert after["prediction_drift"][2] > once["prediction_drift"][2]
    same = [name for name in after.columns if not name.startswith("prediction") and name not in ("drifted", "finding")]
    assert after[1:].select(same).equals(once[1:].select(same))


@pytest.mark.slow
def test_a_later_champion_is_measured_by_its_own_answers_alone(lake, champion, answer, measured):
    champion()
    for number in range(2):
        answer(number, shares=OTHER)
    champion()
    answer(1, rows=60, version=2, arm="shadow")
    answer(2, version=2)
    rows = measured()
    assert rows.select("model_version", "documents").rows() == [(1, 100), (2, 60), (2, 100)]
    assert rows["prediction_drift"].is_null().to_list() == [True, True, False]
    assert rows["drifted"].to_list() == [True, False, False]
    found = latest_windows(lake, day(2), 5)
    assert found.rows() == [(TASK, 1, at(0, 9), True), (TASK, 2, at(1, 9), False)]
    assert latest_windows(lake, day(2), 1).height == 1


@pytest.mark.slow
def test_every_task_is_measured_under_its_own_name(champion, answer, lake, measured):
    for task in ("irony", TASK):
        champion(task=task)
    decided = answer(0)
    lake.insert_missing("silver/decisions", decided.with_columns(task=pl.lit("irony")), ["document_id", "task"])
    assert measured()["task"].to_list() == ["irony", TASK]
