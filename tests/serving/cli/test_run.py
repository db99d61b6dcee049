"""The whole graph on the samples, as `seamless run` does it, in one lake that the tests of this file share."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from governance import catalog
from platform_assets import definitions as platform
from platform_assets.models import encoder as encoder_asset
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT
from sensors import retrain_encoder
from sensors.materialize_stale import State
from sensors.stale_days import RunPlan
from serving.cli.run import RunFailedError, run
from signals.classify import ASKED_ABOUT
from signals.tasks import TASKS
from tests.support import OF_COMMANDS
from tests.support.cli import seamless
from tests.support.graph import settled

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(home: Path) -> Lakehouse:
    return Lakehouse(uri=str(home / "lake"))


TABLES = {
    "silver": [
        "pages",
        "messages",
        "images",
        "embeddings",
        "message_features",
        "labels",
        "decisions",
        "page_signals",
        "message_signals",
        "ad_events",
        "inventory",
        "rtb_auctions",
        "user_sync",
    ],
    "gold": [
        "contextual_signals",
        "site_brand_safety",
        "psychosocial_daily",
        "ad_performance_hourly",
        "inventory_daily",
        "rtb_hourly",
        "user_sync_hourly",
        "audit_trail",
    ],
    "reports": ["risk_analysis", "business_insights", "platform_health", "model_monitoring"],
    "operations": ["drift"],
}
DERIVED = [f"{layer}/{name}" for layer, names in TABLES.items() for name in names]
# What a decision says of the run that made it, not of its document.
OF_THE_RUN = {"run_id", "decided_at", "answered_at", "input_version"}


def test_every_table_of_the_design_has_rows(lake: Lakehouse):
    counts = {table: lake.count(table) for table in [*DERIVED, "silver/quarantine"]}
    assert [table for table, rows in counts.items() if not rows] == []


def test_every_column_of_every_table_is_declared_in_the_catalog_and_no_other(lake: Lakehouse):
    for table in catalog.tables().values():
        if lake.exists(table.name) or table.name not in OF_COMMANDS:
            assert {*lake.columns(table.name)} - {"undeclared"} == {*table.classes}, table.name


def test_the_summary_names_every_table_model_and_report(home: Path):
    said = (home / "first_run.txt").read_text()
    for expected in [*DERIVED, *TASKS, "risk_analysis.html", "quarantined", "Next"]:
        assert expected.split("/")[-1] in said


def test_every_landed_record_is_a_row_or_quarantined(lake: Lakehouse):
    landed = sum(1 for path in (PROJECT / "samples/messages").glob("*.jsonl") for _ in path.open("rb"))
    bronze = lake.count("bronze/social_messages")
    quarantined = lake.read("silver/quarantine")
    of_bronze = quarantined.filter(pl.col("table") == "bronze/social_messages").height
    of_silver = quarantined.filter(pl.col("table") == "silver/messages").height
    assert landed == bronze + of_bronze
    assert bronze == lake.count("silver/messages") + of_silver
    assert of_bronze
    assert of_silver


def test_every_task_of_a_kind_is_answered_for_every_document(lake: Lakehouse):
    decided = lake.read("silver/decisions")
    for kind, table in (("page", "silver/pages"), ("message", "silver/messages"), ("image", "silver/images")):
        documents = lake.read(table).select(ASKED_ABOUT).unique().height
        for task in TASKS.values():
            if kind in task.documents:
                assert decided.filter(pl.col("task") == task.name, pl.col("kind") == kind).height == documents


def test_a_second_run_changes_no_table_and_trains_nothing(home: Path, lake: Lakehouse):
    before = {table: lake.version(table) for table in [*DERIVED, "silver/quarantine"]}
    again = seamless(home, "run")
    assert again.returncode == 0, again.stderr
    assert {table: lake.version(table) for table in before} == before
    listed = seamless(home, "models", "list").stdout
    assert listed.count(" 1  ") >= len(TASKS)
    assert " 2  champion" not in listed


@pytest.fixture(scope="module")
def definitions(home: Path) -> Iterator[dg.Definitions]:
    """Return the platform's definitions on the folder's lake, in this process."""
    with settled(home):
        yield platform.defs()


@pytest.mark.parametrize(
    "tables",
    [
        *([f"silver/{name}"] for name in TABLES["silver"]),
        *([f"{of}/{t}" for t in TABLES[of]] for of in ("gold", "reports", "operations")),
    ],
    ids=lambda tables: tables[0] if len(tables) == 1 else tables[0].split("/")[0],
)
def test_a_deleted_day_comes_back_by_backfill(definitions: dg.Definitions, lake: Lakehouse, tables: list[str]):
    day = "2026-11-12"
    kept = {table: lake.read(table, [day]) for table in tables}
    for table in tables:
        assert kept[table].height
        lake.open(table).delete(f"event_date = '{day}'")
        assert lake.read(table, [day]).is_empty()
    keys = [dg.AssetKey(table.split("/")) for table in tables]
    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(asset_selection=keys, partition_key=day).success
    for table in tables:
        columns = [name for name in kept[table].columns if name not in OF_THE_RUN]
        assert as_rows(lake.read(table, [day]).select(columns)) == as_rows(kept[table].select(columns)), table


def as_rows(rows: pl.DataFrame) -> list[str]:
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows.to_dicts())


def test_predict_answers_each_line_in_order_whatever_it_holds(home: Path):
    lines = [
        b"I love this so much, best day ever!",
        b"",
        "😀🎉".encode(),
        b"bad \xff\xfe bytes",
        b"x" * 1_000_000,
        b"the end",
    ]
    (home / "texts.txt").write_bytes(b"\n".join(lines))
    labels = seamless(home, "predict", "--task", "sentiment", "--input", "texts.txt", "--format", "labels")
    assert labels.returncode == 0, labels.stderr
    assert len(labels.stdout.splitlines()) == len(lines)
    assert set(labels.stdout.split()) <= {*TASKS["sentiment"].labels, "unknown"}
    detailed = seamless(home, "predict", "--task", "sentiment", "--input", "texts.txt")
    answers = [json.loads(line) for line in detailed.stdout.splitlines()]
    assert [answer["line"] for answer in answers] == [1, 2, 3, 4, 5, 6]
    likeliest = [max(answer["scores"], key=answer["scores"].get, default="unknown") for answer in answers]
    assert likeliest == labels.stdout.split()
    assert answers[0]["label"] == "positive"
    assert (answers[1]["label"], answers[1]["abstention"]) == (None, "no_text")


def test_predict_says_what_batch_said(home: Path, lake: Lakehouse):
    known = lake.scan("silver/decisions").filter(pl.col("task") == "threat", pl.col("kind") == "message")
    texts = lake.scan("silver/messages").select("document_id", "text_as_sent")
    both = known.join(texts, on="document_id").collect().filter(~pl.col("text_as_sent").str.contains("\n")).head(50)
    (home / "messages.txt").write_text("\n".join(both["text_as_sent"]) + "\n", encoding="utf-8")
    said = seamless(home, "predict", "--task", "threat", "--input", "messages.txt")
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [(a["label"], a["score"]) for a in answers] == list(both.select("label", "score").iter_rows())


def test_sql_prints_one_array_or_a_line_a_row(home: Path):
    asked = ["sql", "SELECT site, pages FROM gold.site_brand_safety ORDER BY ALL LIMIT 3"]
    rows = json.loads(seamless(home, *asked, "--format", "json").stdout)
    lines = seamless(home, *asked, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert len(rows) == 3
    nothing = ["sql", "SELECT site FROM gold.site_brand_safety WHERE site = 'none'", "--format"]
    assert [seamless(home, *nothing, name).stdout for name in ("json", "jsonl")] == ["[]\n", ""]


def test_sql_shows_a_role_its_tenants_rows(home: Path):
    asked = ["sql", "SELECT DISTINCT tenant_id FROM gold.contextual_signals", "--format", "csv"]
    assert set(seamless(home, *asked).stdout.split()) == {"tenant_id", "meridian", "harbour", "default"}
    assert seamless(home, *asked, "--as", "analyst", "--tenant", "harbour").stdout.split() == ["tenant_id", "harbour"]
    refused = seamless(home, *asked, "--as", "analyst")
    assert refused.returncode == 1
    assert "--tenant" in refused.stderr


def test_an_altered_transform_id_refuses_to_score_and_names_both(home: Path):
    described = next((home / "models" / "dev.hate").iterdir()) / "model.json"
    original = described.read_text()
    described.write_text(json.dumps(json.loads(original) | {"transform_id": "0123456789abcdef"}))
    try:
        refused = seamless(home, "predict", "--task", "hate", "--input", "one_text.txt")
    finally:
        described.write_text(original)
    assert refused.returncode == 1
    assert not refused.stdout
    assert "0123456789abcdef" in refused.stderr
    assert json.loads(original)["transform_id"] in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_tampered_weight_refuses_to_score(home: Path):
    weights = next((home / "models" / "dev.irony").iterdir()) / "weights.safetensors"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    try:
        refused = seamless(home, "predict", "--task", "irony", "--input", "one_text.txt")
    finally:
        weights.write_bytes(original)
    assert refused.returncode == 1
    assert "digest" in refused.stderr


def test_a_run_whose_tuning_fails_is_made_to_its_end_and_fails(home: Path, tmp_path: Path, monkeypatch):
    own = Path(shutil.copytree(home, tmp_path / "own"))
    (tmp_path / "landing" / "messages").mkdir(parents=True)
    sent = {
        "message_id": "late",
        "author_id": "u-1",
        "text": "The bridge is open again.",
        "sent_at": "2026-11-12T10:00Z",
    }
    (tmp_path / "landing" / "messages" / "one.jsonl").write_text(json.dumps(sent) + "\n")

    def fails(*_):
        raise OSError("no memory left")

    monkeypatch.setenv("DAGSTER_HOME", str(own))
    monkeypatch.setattr(retrain_encoder, "decide", lambda _: (True, ""))
    monkeypatch.setattr(encoder_asset, "teaching_texts", fails)
    with settled(own, landing=tmp_path / "landing"), pytest.raises(RunFailedError, match="no memory left"):
        run(lambda *_: None)
    about = Lakehouse(uri=str(own / "lake")).read("silver/message_signals").filter(pl.col("message_id") == "late")
    assert about["sentiment"].item() is not None


@pytest.mark.usefixtures("definitions")
def test_what_is_behind_again_as_soon_as_it_is_made_is_an_error_and_not_made_for_ever(home: Path, monkeypatch):
    again = State(decision_plans=(RunPlan("2026-11-09", "2026-11-09", ("operations/promotions",)),))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setattr("serving.cli.run.observe", lambda *_, **__: again)
    with pytest.raises(RunFailedError, match="are stale again as soon as they are materialised"):
        run(lambda *_: None)
