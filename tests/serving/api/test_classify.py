"""Classification by a server of a test's own, with models of its own, and what becomes of its decisions."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings

from platform_assets.bronze import api_decisions
from platform_assets.ingestion import candidate_files, ingest
from platform_assets.silver.decisions import answered_by_api, decided, documents_of
from resources.decision_spool import FOLDER
from resources.encoder import Encoder, encoder
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from resources.registry.models import registry
from resources.serving_models import serving
from resources.settings import configure, settings
from serving.api import decider
from serving.api.classify import Answered
from signals.classify import DECISION
from signals.documents.languages import languages_of
from signals.documents.text import normal_forms
from signals.tasks import tasks_for
from tests.encoders import head
from tests.serving.api.conftest import PAGE, TASKS, served
from tests.serving.api.test_reader import HOSTILE, png
from tests.serving.api.test_reader import PAGE as HTML
from tests.support.signals import record

TEXTS = [f"The harbour of town {n} opens its new bridge, and everybody loves it" for n in range(20)]


@pytest.fixture(scope="module")
def home(taught):
    """Return a folder with models, which this process's settings name."""
    before = settings()
    configure(**taught[1])
    yield taught
    configure(**before.model_dump())


@pytest.fixture(scope="module")
def server(home):
    folder, kept = home
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decider, "REFRESH_SECONDS", 0.5)
        with served(folder, **kept, api_models=True, api_seconds=300) as (client, header):
            until = time.monotonic() + 60
            while client.get("/readyz").status_code != 200 and time.monotonic() < until:
                time.sleep(0.1)
            yield client, header()


def ask(server, *documents, status=200, **more):
    client, key = server
    answer = client.post("/v1/classify", json={"documents": list(documents), **more}, headers=key)
    assert answer.status_code == status, answer.text
    return answer.json().get("answers", answer.json())


def kept(home):
    """Return the decisions that the API has kept so far, as silver/decisions has them."""
    folder, _ = home
    lake = Lakehouse(uri=str(folder / "lake"))
    files, listing = candidate_files(lake, api_decisions.SCHEMA)
    ingest(lake, api_decisions.SCHEMA, files, datetime.now(UTC), (), listing)
    return answered_by_api(lake.read(api_decisions.SCHEMA.table))


def test_texts_are_decided_as_batch_decides_them_to_the_last_digit(server, home):
    answers = ask(server, *({"text": text, "id": f"m{n}"} for n, text in enumerate(TEXTS)))
    texts, hashes = normal_forms(TEXTS)
    today = datetime.now(UTC).date()
    rows = pl.DataFrame({"text": texts, "content_hash": hashes, "language": languages_of(texts)[0]}).with_columns(
        document_id=pl.Series([f"m{n}" for n in range(len(TEXTS))]),
        tenant_id=pl.lit("harbour"),
        event_date=pl.lit(today),
        source=pl.lit("f"),
        position=pl.lit(1),
        received_at=pl.lit(datetime.now(UTC)),
    )
    models = serving(registry(settings()), encoder(settings()))
    of_batch, _ = decided(
        documents_of("message", rows), models.models, models.encoder, input_table="t", input_version=1, run_id="r"
    )
    expected = {row["decision_id"]: row for row in of_batch.select(DECISION.names).to_dicts()}
    told = [decision for answer in answers for decision in answer["decisions"]]
    assert {answer["status"] for answer in answers} == {"decided"}
    assert {decision["decision_id"] for decision in told} == set(expected)
    for decision in told:
        same = expected[decision["decision_id"]]
        for name in ("scores", "score", "label", "abstention", "evidence", "topics", "transform_id", "model_digest"):
            assert decision[name] == same[name], name
    rows = kept(home).filter(pl.col("decision_id").is_in(list(expected)))
    assert rows.select(DECISION.names).sort("decision_id").to_dicts() == sorted(
        expected.values(), key=lambda row: row["decision_id"]
    )
    assert set(rows["served_by"]) == {"api"}


def test_pages_and_pictures_are_read_by_what_they_hold_and_never_fetched(server):
    image = base64.b64encode(png(8, 8)).decode()
    page, picture = ask(server, {"html": HTML, "url": f"{PAGE}?utm_source=x"}, {"image": image})
    assert {decision["task"] for decision in page["decisions"]} == {*TASKS}
    assert {decision["document_id"] for decision in page["decisions"]} == {PAGE}
    assert {decision["kind"] for decision in page["decisions"]} == {"page"}
    assert (picture["decisions"], picture["unanswered"]) == ([], ["image_threat"])


def test_only_the_tasks_that_are_asked_are_answered_and_what_no_model_answers_is_named(server):
    one, other = ask(server, {"text": "a lovely day"}, {"text": "a bad one"}, tasks=["sentiment", "irony"])
    for answer in (one, other):
        assert [decision["task"] for decision in answer["decisions"]] == ["sentiment"]
        assert answer["unanswered"] == ["irony"]
    (whole,) = ask(server, {"text": "a lovely day"})
    assert {decision["task"] for decision in whole["decisions"]} == {*TASKS} & {t.name for t in tasks_for("message")}


def test_a_hostile_document_is_refused_by_name_and_the_others_are_decided(server):
    hostile = [{"html": one.html} for one in HOSTILE.values() if one.html]
    hostile += [{"image": base64.b64encode(one.image).decode()} for one in HOSTILE.values() if one.image]
    *refused, calm = ask(server, *hostile, {"text": "a calm day"})
    assert {answer["status"] for answer in refused} == {"unreadable"}
    assert all(answer["reason"] for answer in refused)
    assert calm["status"] == "decided"


def test_what_is_not_decided_by_the_deadline_is_answered_from_the_store_or_marked(server, monkeypatch):
    client, _ = server
    client.app.state.server.store.put([record(PAGE, at=datetime.now(UTC), risk="high")])
    client.app.state.server.store.put([record(f"{PAGE}2", at=datetime.now(UTC) - timedelta(days=40))])
    batcher = client.app.state.server.batcher
    decide = batcher._decide
    monkeypatch.setattr(batcher, "_decide", lambda *given: time.sleep(0.5) or decide(*given))
    known, old, other = ask(
        server,
        {"html": HTML, "url": PAGE},
        {"html": HTML, "url": f"{PAGE}2"},
        {"text": "x", "id": "m"},
        deadline_ms=200,
    )
    assert (known["status"], known["signals"]["risk"]) == ("stored", "high")
    assert [old["status"], other] == ["late", {"id": "m", "status": "late"}]


def test_a_champion_serves_from_its_promotion_on_and_a_shadow_is_kept_and_not_told(server, home):
    models = registry(settings())
    head(models, Encoder(registry=models), "sentiment", 77)
    assert settles(lambda: version_of(server) == 2)
    promotion.roll_back(models, "sentiment", 1, by="ada", why="complaints")
    assert settles(lambda: version_of(server) == 1)
    promotion.set_traffic(models, "sentiment", 2, 0.0, by="ada", why="trial")
    decider = server[0].app.state.server.decider
    assert settles(lambda: decider.serving.models.traffic["sentiment"].challenger == 2)
    (answer,) = ask(server, {"text": "of two minds", "id": "two"}, tasks=["sentiment"])
    assert [decision["model_version"] for decision in answer["decisions"]] == [1]
    rows = kept(home).filter(pl.col("document_id") == "two").sort("model_version")
    assert rows.select("model_version", "traffic_arm").rows() == [(1, "champion"), (2, "shadow")]


def settles(holds):
    """Return whether something comes to hold."""
    until = time.monotonic() + 20
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def version_of(server):
    (answer,) = ask(server, {"text": "who answers?"}, tasks=["sentiment"])
    (decision,) = answer["decisions"]
    return decision["model_version"]


def test_what_is_kept_is_ingested_once_and_a_line_that_a_kill_cut_off_is_no_row(server, home):
    folder, _ = home
    ask(server, {"text": "kept once"})
    before = kept(home).height
    assert before > 0
    assert kept(home).height == before
    (folder / "spool" / FOLDER / "2026-killed.jsonl").write_text('{"decision_id": "x", "decis')
    assert kept(home).height == before
    lines = [line for file in (folder / "spool" / FOLDER).glob("*.jsonl") for line in file.read_text().splitlines()]
    assert "kept once" not in "".join(lines)
    assert all(json.loads(line)["instruction_set"] for line in lines if line.endswith("}"))


def test_whatever_is_asked_within_the_schema_is_answered_as_declared(server):
    client, key = server
    schema = client.app.openapi()
    declared = schema["paths"]["/v1/classify"]["post"]["responses"]
    strategy = schemathesis.openapi.from_dict(schema)["/v1/classify"]["POST"].as_strategy()

    @given(case=strategy)
    @hypothesis_settings(max_examples=15, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def asked(case):
        answer = client.post("/v1/classify", json=case.body, headers=key)
        assert answer.status_code < 500
        assert str(answer.status_code) in {str(status) for status in declared}
        if answer.status_code == 200:
            Answered.model_validate_json(answer.content)

    asked()


@pytest.mark.parametrize(
    "documents",
    [[], [{}], [{"text": "a", "html": "b"}], [{"text": "x" * 200_001}], [{"text": "a"}] * 65,
     [{"text": "a", "more": 1}], [{"text": None}]],
)  # fmt: skip
def test_documents_that_are_not_as_declared_are_refused(server, documents):
    ask(server, *documents, status=422)


def test_there_is_no_other_task_and_no_other_scope(server):
    ask(server, {"text": "a"}, tasks=["fortune"], status=422)


def test_a_server_without_models_says_so(tmp_path):
    with served(tmp_path) as (client, header):
        assert client.post("/v1/classify", json={"documents": [{"text": "a"}]}, headers=header()).status_code == 503
