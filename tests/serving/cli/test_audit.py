"""`seamless audit` as a person uses it, on a small lake of its own."""

import json
import shutil
from datetime import UTC, date, datetime

import polars as pl
import pytest

from governance.promotion_log import ENCODER
from platform_assets.operations import model_versions, promotions
from platform_assets.silver import decisions
from resources.audit_trail import TRAIL, decision, visible
from resources.encoder import Encoder
from resources.instruction_set import instruction_set
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from resources.registry.models import Registry
from resources.serving_models import serving
from signals.consumer_record import page_record
from signals.documents.text import content_hash, document_text, normalise
from tests.encoders import head, other_encoder
from tests.support.cli import seamless

NOON, DAY = datetime(2026, 11, 12, 12, tzinfo=UTC), "2026-11-12"
PAGE, OTHER = "https://a.example/bridge", "https://b.example/fair"
PLACE = {"source": "f", "position": 1, "received_at": NOON, "event_date": NOON.date()}


def page(url, tenant, text):
    """Return a row of silver/pages."""
    text = normalise(text)
    named = {"tenant_id": tenant, "document_id": url, "normalized_url": f"{url}?from=feed", "url": f"{url}?from=feed"}
    said = {"title": "The bridge", "text": text, "language": "en", "language_score": 1.0, "site": "a.example"}
    hashed = content_hash(document_text("The bridge", text))
    return named | said | {"content_hash": hashed, "fetched_at": NOON, "published_on": date(2026, 11, 1)} | PLACE


def registry_of(home):
    kept = {"artifacts": str(home / "artifacts"), "cache": str(home / "models")}
    return Registry(tracking_uri=f"sqlite:///{home}/mlflow.db", **kept)


@pytest.fixture(scope="module")
def made(blank, tmp_path_factory):
    """Return a folder with a registry of two heads, two pages, and the decisions about them."""
    folder = tmp_path_factory.mktemp("audit")
    shutil.copy(blank, folder / "mlflow.db")
    models = registry_of(folder)
    lake, encoder = Lakehouse(uri=str(folder / "lake")), Encoder(registry=models)
    versions = [head(models, encoder, task) for task in ("sentiment", "threat")]
    pages = pl.DataFrame([page(PAGE, "harbour", "The harbour opens its bridge."), page(OTHER, "acme", "A fair.")])
    lake.replace_days("silver/pages", [DAY], pages)
    answers, _ = decisions.decided(
        decisions.documents_of("page", pages),
        serving(models, encoder).models,
        encoder,
        input_table="silver/pages",
        input_version=lake.version("silver/pages"),
        run_id="run-1",
    )
    lake.insert_missing(decisions.TABLE, answers, ["decision_id"])
    pictures = pages.clear().select(
        "tenant_id", "document_id", "content_hash", "fetched_at", "event_date", page_url="url"
    )
    lake.replace_days("silver/page_signals", [DAY], page_record(pages, pictures, answers))
    rows = pl.DataFrame([model_versions.row(version) for version in versions], schema=model_versions.SCHEMA)
    lake.replace_all(model_versions.TABLE, rows)
    lake.replace_all(promotions.TABLE, promotions.recorded(models))
    return folder


@pytest.fixture
def home(made, tmp_path):
    """Return a copy of that folder, to be changed."""
    return shutil.copytree(made, tmp_path / "home")


def lake_of(home):
    return Lakehouse(uri=str(home / "lake"))


def id_of(home, task="sentiment", page=PAGE):
    found = lake_of(home).read(decisions.TABLE).filter(pl.col("document_id") == page, pl.col("task") == task)
    return found["decision_id"].item()


def told(home, *arguments, code=0):
    ran = seamless(home, "audit", *arguments)
    assert ran.returncode == code, ran
    return ran.stdout if not code or ran.stdout else ran.stderr


def test_a_decision_that_gold_lacks_is_told_in_one_go(made):
    text = told(made, id_of(made))
    for fact in ("sentiment: ", "dev.sentiment version 1, digest ", "macro_recall 0.7", "promotion by gate",
                 "passed: as it was", "silver/pages version 1", "run-1, by batch as champion", PAGE):  # fmt: skip
        assert fact in text, fact
    (row,) = json.loads(told(made, id_of(made), "--format", "json"))
    stored = lake_of(made).read(decisions.TABLE).filter(pl.col("decision_id") == id_of(made)).to_dicts()[0]
    assert row["scores"] == stored["scores"]
    assert (row["model_digest"], row["promoted_by"], row["instruction_set"]) == (
        stored["model_digest"], "gate", instruction_set(),
    )  # fmt: skip


def test_what_gold_holds_is_told_as_it_stands_there_also_when_silver_has_expired(home):
    lake, name = lake_of(home), id_of(home)
    row = decision(lake, name, visible("engineer", None)).with_columns(promoted_why=pl.lit("as gold has it"))
    lake.replace_days(TRAIL, [DAY], row.drop("gate"))  # a row that is older than the column
    assert "as gold has it" in told(home, name)
    shutil.rmtree(home / "lake/silver/decisions")
    assert "as gold has it" in told(home, name)


@pytest.mark.parametrize(
    "address", [PAGE, f"{PAGE}?from=feed", f"{PAGE}?utm_source=mail", "HTTP://www.A.example/bridge/amp#top"]
)
def test_a_page_is_told_by_any_address_that_names_it(made, address):
    rows = json.loads(told(made, address, "--format", "json"))
    assert [row["task"] for row in rows] == ["sentiment", "threat"]
    assert {row["document_id"] for row in rows} == {PAGE}


def test_a_role_is_told_of_its_own_organisation_and_no_text(made):
    asks = ("--as", "support", "--tenant", "harbour")
    rows = json.loads(told(made, PAGE, *asks, "--format", "json"))
    assert [row["tenant_id"] for row in rows] == ["harbour", "harbour"]
    assert not {"text", "title"} & set(rows[0])
    assert told(made, OTHER, *asks, code=1) == f"seamless: no decided page is held under {OTHER}\n"
    other = id_of(made, page=OTHER)
    assert told(made, other, *asks, code=1) == f"seamless: there is no decision {other}\n"
    assert "may not read gold.audit_trail" in told(made, PAGE, "--as", "decisioning", "--tenant", "harbour", code=1)
    assert "name it with --tenant" in told(made, PAGE, "--as", "support", code=1)


@pytest.mark.parametrize("name", ["0" * 32, "https://nowhere.example/", "'; drop", ""])
def test_what_is_not_there_is_one_line(made, name):
    assert told(made, name, code=1).count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [("--format", "xml", PAGE), ("show",), ("replay",), ("replay", "0" * 32, "--count", "2"),
     ("replay", "--count", "0"), ("replay", "--all", "yesterday"), ("replay", "--all", DAY, "--count", "2")],
)  # fmt: skip
def test_bad_usage_is_one_line_and_code_2(made, arguments):
    assert told(made, *arguments, code=2).startswith("seamless: ")


def test_a_decision_is_replayed_to_the_last_digit(made):
    name = id_of(made)
    assert told(made, "replay", name) == f"{name}  same\n"
    assert told(made, "replay", "--all", DAY) == "4 decisions replayed: 4 same, 0 different\n"
    assert told(made, "replay", "--count", "3") == "3 decisions replayed: 3 same, 0 different\n"


def test_a_decision_is_replayed_under_its_own_encoder_when_another_serves(home):
    models = registry_of(home)
    other = other_encoder(models, encodes=False)
    promotion.promote(models, ENCODER, other.version, by="ada", why="a trial")
    assert Encoder(registry=models).digest == other.digest
    assert told(home, "replay", "--all", DAY) == "4 decisions replayed: 4 same, 0 different\n"


def test_a_day_without_decisions_shows_nothing_and_fails(made):
    told_of_none = told(made, "replay", "--all", "2026-11-13", code=1)
    assert told_of_none == "0 decisions replayed: 0 same, 0 different\n"


def changed(home, name, **values):
    """Have the record of a decision say something else."""
    is_it = pl.col("decision_id") == name
    said = [pl.when(is_it).then(value).otherwise(column).alias(column) for column, value in values.items()]
    lake_of(home).rewrite(decisions.TABLE, lambda rows: rows.with_columns(said))


def test_an_answer_that_is_not_that_of_the_record_is_told(home):
    name = id_of(home)
    (row,) = lake_of(home).read(decisions.TABLE).filter(pl.col("decision_id") == name).to_dicts()
    first, *rest = row["scores"]
    other = first | {"score": first["score"] + 1e-6}
    changed(home, name, scores=pl.lit(pl.Series([[other, *rest]])))
    text = told(home, "replay", name, code=1)
    assert text.startswith(f"{name}  different: score of {first['label']} was {other['score']}, is {first['score']}")
    assert "4 decisions replayed: 3 same, 1 different" in told(home, "replay", "--all", DAY, code=1)
    changed(home, name, label=pl.lit("other"), instruction_set=pl.lit("sparc"))
    assert "cannot be replayed: decided on sparc, but this is " in told(home, "replay", name, code=1)


def test_what_a_replay_lacks_is_named(home):
    lake, name, threat = lake_of(home), id_of(home), id_of(home, "threat")
    changed(home, name, transform_id=pl.lit("0123456789abcdef"))
    running = Encoder().transform_id
    reason = f"decided under transform_id 0123456789abcdef, but {running} is running"
    assert f"{reason}; no bundle of it was kept" in told(home, "replay", name, code=1)
    (home / "lake/transforms").mkdir()
    (home / "lake/transforms/0123456789abcdef.tar.gz").touch()
    assert f"{reason}; {home}/lake/transforms/0123456789abcdef.tar.gz has its" in told(home, "replay", name, code=1)
    lake.rewrite("silver/pages", lambda rows: rows.filter(document_id=OTHER))
    assert "cannot be replayed: silver/pages no longer holds its document" in told(home, "replay", threat, code=1)
    changed(home, threat, served_by=pl.lit("api"))
    assert "the API keeps no texts" in told(home, "replay", threat, code=1)
    changed(home, threat, model_version=pl.lit(9))
    assert "task threat has no version 9" in told(home, "replay", threat, code=1)
    totals = told(home, "replay", "--all", DAY, code=1).splitlines()[-1]
    assert totals == "4 decisions replayed: 2 same, 0 different, 1 for want of transform, 1 for want of model"


def test_a_model_whose_files_are_gone_or_changed_does_not_answer(home):
    name = id_of(home)
    (weights,) = (home / "models").glob("dev.sentiment/*/*.safetensors")
    weights.write_bytes(weights.read_bytes() + b" ")
    assert "files have digest" in told(home, "replay", name, code=1)
