import json
import shutil
from datetime import UTC, date, datetime

import dagster as dg
import numpy as np
import polars as pl
import pytest

from governance.gates.promotion import Verdict
from platform_assets.bronze import api_decisions
from platform_assets.ingestion import prepare
from platform_assets.silver.decisions import (
    INPUTS,
    TABLE,
    decided,
    decisions,
    documents_of,
    read_documents,
)
from platform_assets.silver.embeddings import encoded, unencoded
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import PLACE, Lakehouse
from resources.registry import promotion
from resources.serving_models import serving
from resources.signal_store.stores import LocalStore
from resources.transform_bundles import kept
from sensors.stale_days import stale
from serving.stream import pipelines
from serving.stream.embedding_cache import EmbeddingCache
from signals.classify import ASKED_ABOUT, DECISION, DOCUMENT, Models, load_model
from signals.decisions import newest_answers
from signals.documents.text import content_hash, document_text, document_texts
from signals.models.encoder import DIMENSIONS
from signals.models.heads import LinearHead
from signals.models.ngrams import FEATURES
from signals.tasks import TASKS
from signals.traffic import Traffic

RUNNING = "0123456789abcdef"
FETCHED = datetime(2026, 11, 9, 8, tzinfo=UTC)
PAGES = [("p1", "Flood", "The river rose.", 9), ("p1", "Flood", "The river rose.", 10), ("p1", "Flood", "It fell.", 10)]
PAGES += [("p2", None, "No title here.", 10), ("p3", "Later", "Another day.", 12)]
DAYS = ["2026-11-09", "2026-11-10"]


@pytest.fixture(scope="module")
def encoder():
    return Encoder()


@pytest.fixture(scope="module")
def lake(tmp_path_factory, encoder):
    lake = Lakehouse(uri=str(tmp_path_factory.mktemp("lake")))
    pages = pl.DataFrame(
        [
            (d, title, text, content_hash(document_text(title, text)), "acme", FETCHED, date(2026, 11, day), "p", place)
            for place, (d, title, text, day) in enumerate(PAGES)
        ],
        schema=["document_id", "title", "text", "content_hash", "tenant_id", "fetched_at", DAY, *PLACE],
        orient="row",
    ).with_columns(received_at="fetched_at")
    lake.replace_all("silver/pages", pages)
    texts = pages.select("content_hash", DAY, text=pl.concat_str("title", "text", separator="\n", ignore_nulls=True))
    lake.insert_missing("silver/embeddings", encoded(texts, encoder), ["content_hash", "encoder_id"])
    named = pages.select("document_id", "content_hash", "tenant_id", DAY, *PLACE, "received_at").head(1)
    images = named.with_columns(body=pl.lit(b"bytes"))
    lake.replace_all("silver/images", images)
    prepare(lake, api_decisions.SCHEMA, FETCHED)
    return lake


def head(folder, task, version, transform_id=RUNNING):
    """Write the files of a head that answers at random, by its version."""
    labels = TASKS[task].labels
    rng = np.random.default_rng(version)
    vector, ngram = (rng.standard_normal((n, len(labels))).astype(np.float32) for n in (DIMENSIONS, FEATURES))
    made = LinearHead(labels, vector, ngram, np.zeros(len(labels), np.float32))
    made.save(folder, task=task, transform_id=transform_id)


def answers_about(documents, models, version=0, run_id="r"):
    """Return the decisions about documents, none of which a model raises on."""
    found, broken = decided(documents, models, None, input_table="silver/pages", input_version=version, run_id=run_id)
    assert broken.is_empty()
    return found


def model(folder, task, version):
    head(folder, task, version)
    return load_model(folder, task, version, "d" * 64, RUNNING)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    found = {task: model(tmp_path_factory.mktemp(task), task, 4) for task in ("sentiment", "irony")}
    return Models({task: Traffic(4) for task in found}, found)


@pytest.fixture(scope="module")
def challenger(tmp_path_factory):
    return model(tmp_path_factory.mktemp("challenger"), "sentiment", 5)


def test_pending_are_the_distinct_documents_of_the_days_as_they_are_scored(lake, encoder):
    found = read_documents(lake, "page", DAYS, encoder)
    assert found.columns == [*DOCUMENT.names, *PLACE, "received_at"]
    assert sorted(found.select("document_id", DAY, "title", "text").rows()) == [
        ("p1", date(2026, 11, 9), "Flood", "The river rose."),
        ("p1", date(2026, 11, 10), "Flood", "It fell."),
        ("p1", date(2026, 11, 10), "Flood", "The river rose."),
        ("p2", date(2026, 11, 10), None, "No title here."),
    ]
    texts = document_texts(found["title"], found["text"])
    assert [content_hash(text) for text in texts] == found["content_hash"].to_list()
    vectors = np.array(found["vector"].to_list(), np.float32)
    assert vectors.tobytes() == encoder.encode(texts).tobytes()


def test_each_organisation_has_its_own_decision_about_one_content(lake, models):
    pages, vectors = lake.read("silver/pages"), lake.read("silver/embeddings").select("content_hash", "vector")
    theirs = pages.filter(pl.col("document_id") == "p2").with_columns(tenant_id=pl.lit("other"))
    documents = documents_of("page", pl.concat([pages, theirs]), vectors)
    found = answers_about(documents, models)
    about = found.filter(pl.col("document_id") == "p2")
    assert about["tenant_id"].to_list() == ["acme", "other"]
    assert about["decision_id"].n_unique() == 2
    assert about["scores"].n_unique() == 1


def test_pictures_come_with_their_bytes_and_without_text(lake, encoder):
    (row,) = read_documents(lake, "image", DAYS, encoder).rows(named=True)
    assert (row["kind"], row["body"], row["text"], row["vector"]) == ("image", b"bytes", None, None)


def test_vectors_of_another_encoder_are_not_used_and_what_has_none_is_encoded_and_stored(copied):
    class Another:
        encoder_id = "another"

        def encode(self, texts):
            return np.full((len(texts), DIMENSIONS), len(texts), np.float32)

    found = read_documents(copied, "page", DAYS, Another())
    assert found["vector"].list.first().to_list() == [3.0] * 4, "three distinct texts"
    stored = copied.read("silver/embeddings").filter(encoder_id="another")
    assert (stored.height, stored["content_hash"].n_unique()) == (3, 3)


def test_texts_are_encoded_once(lake, encoder):
    texts = pl.DataFrame({"content_hash": [content_hash("No title here."), content_hash("new")]})
    assert unencoded(lake, texts, encoder.encoder_id)["content_hash"].to_list() == [content_hash("new")]
    assert unencoded(lake, texts, "another").height == 2


def test_answers_say_where_they_came_from(lake, encoder, models):
    documents = read_documents(lake, "page", DAYS, encoder)
    found = answers_about(documents, models, 3, "r1")
    assert found.columns[: len(DECISION)] == DECISION.names
    assert sorted(found.select("document_id", "task", "model_version", DAY).rows()) == [
        ("p1", "sentiment", 4, date(2026, 11, 9)),
        ("p1", "sentiment", 4, date(2026, 11, 10)),
        ("p1", "sentiment", 4, date(2026, 11, 10)),
        ("p2", "sentiment", 4, date(2026, 11, 10)),
    ]
    row = found.row(0, named=True)
    assert (row["input_table"], row["input_version"], row["run_id"]) == ("silver/pages", 3, "r1")
    assert (row["served_by"], row["traffic_arm"], row["transform_id"]) == ("batch", "champion", RUNNING)
    assert row["decided_at"].tzinfo is not None
    again = answers_about(documents, models, 4, "r2")
    assert again["decision_id"].to_list() == found["decision_id"].to_list()
    assert found["decision_id"].is_unique().all()


def test_an_unchanged_document_is_decided_again_on_another_day_and_named_apart(lake, encoder, models):
    found = answers_about(read_documents(lake, "page", DAYS, encoder), models)
    same = found.filter(pl.col("content_hash") == content_hash(document_text("Flood", "The river rose.")))
    assert same[DAY].to_list() == [date(2026, 11, 9), date(2026, 11, 10)]
    assert (same["decision_id"].n_unique(), same["score"].n_unique()) == (2, 1)
    alone = answers_about(read_documents(lake, "page", DAYS[:1], encoder), models)
    assert alone["decision_id"].to_list() == same["decision_id"].to_list()[:1], "whatever other days are made with it"


def test_a_document_on_which_a_model_raises_is_quarantined_and_stops_no_other(lake, encoder, models):
    documents = read_documents(lake, "page", DAYS, encoder)
    short = pl.col("vector").list.head(1)
    odd = documents.with_columns(vector=pl.when(document_id="p2").then(short).otherwise("vector"))
    found, broken = decided(odd, models, None, input_table="silver/pages", input_version=0, run_id="r")
    assert found["document_id"].to_list() == ["p1"] * 3
    assert broken.select("source", "position", DAY).rows() == [("p", 3, date(2026, 11, 10))]
    assert broken["rule"].item().startswith("raised:")
    assert found["decision_id"].to_list() == answers_about(documents, models)["decision_id"].to_list()[:3]


def test_no_documents_and_no_models_make_no_answers(lake, encoder, models):
    documents = read_documents(lake, "page", DAYS, encoder)
    assert answers_about(documents.clear(), models).is_empty()
    empty = answers_about(documents, Models({}, {}))
    assert empty.is_empty()
    assert "decided_at" in empty.columns


def tried(models, challenger, share):
    traffic = {**models.traffic, "sentiment": Traffic(4, challenger=5, share=share)}
    return Models(traffic, models.champions, {"sentiment": challenger})


def arms(documents, models):
    found = answers_about(documents, models).filter(pl.col("task") == "sentiment")
    return {
        about: sorted(of.select("model_version", "traffic_arm").rows()) for about, of in found.group_by(ASKED_ABOUT)
    }


CHAMPION_ANSWERS, CHALLENGER_ANSWERS = [(4, "champion")], [(4, "shadow"), (5, "challenger")]


def test_a_share_of_documents_is_answered_by_the_challenger_and_both_decisions_are_kept(
    lake, encoder, models, challenger
):
    documents = read_documents(lake, "page", DAYS, encoder)
    found = {share: arms(documents, tried(models, challenger, share)) for share in (0.3, 0.6, 0.9, 1.0)}
    for one in found.values():
        assert len(one) == documents.height
        assert all(decisions in (CHAMPION_ANSWERS, CHALLENGER_ANSWERS) for decisions in one.values())
    assert found[0.6] == arms(documents, tried(models, challenger, 0.6))
    given = [{d for d, of in one.items() if of == CHALLENGER_ANSWERS} for one in found.values()]
    assert given[0] <= given[1] <= given[2] <= given[3]
    assert len(given[3]) == documents.height
    # What is assigned does not depend on which documents come together.
    alone = arms(documents.head(1), tried(models, challenger, 0.6))
    assert alone.items() <= found[0.6].items()


def test_a_shadow_is_asked_about_every_document_and_answers_none(lake, encoder, models, challenger):
    documents = read_documents(lake, "page", DAYS, encoder)
    found = arms(documents, tried(models, challenger, 0.0))
    assert list(found.values()) == [[(4, "champion"), (5, "shadow")]] * documents.height


def test_a_challenger_changes_no_answer_of_the_champion(lake, encoder, models, challenger):
    documents = read_documents(lake, "page", DAYS, encoder)
    of_both = answers_about(documents, tried(models, challenger, 0.5))
    alone = answers_about(documents, models)
    columns = ["decision_id", "label", "score"]
    assert of_both.filter(pl.col("model_version") == 4).select(columns).equals(alone.select(columns))


@pytest.fixture
def copied(lake, tmp_path):
    """The same tables, to be written to; there are no pictures."""
    own = Lakehouse(uri=str(shutil.copytree(lake.uri, tmp_path / "lake")))
    own.replace_all("silver/images", own.read("silver/images").clear())
    own.replace_all("silver/messages", own.read("silver/pages").clear())
    return own


@pytest.fixture
def rivals(registry, encoder, tmp_path):
    """Versions 1 and 2 of sentiment, of which the second is champion."""
    for version in (1, 2):
        folder = tmp_path / f"sentiment-{version}"
        folder.mkdir()
        head(folder, "sentiment", version, encoder.transform_id)
        record = {"transform_id": encoder.transform_id}
        made = registry.register("sentiment", folder, {"macro_recall": 0.7}, record)
        registry.judge(made, Verdict(passed=True, why="good"))
        promotion.promote(registry, "sentiment", version, by="gate", why="good")
    return registry


def answered_by(lake, registry, encoder):
    """Decide about the pages of two days, and return their decisions' versions and arms."""
    days = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[1]}
    resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
    ran = dg.materialize([decisions], resources=resources, tags=days)
    assert all(check.passed for check in ran.get_asset_check_evaluations())
    stored = lake.read("silver/decisions", DAYS)
    return sorted(stored.select("model_version", "traffic_arm").unique().rows()), stored


def test_what_the_api_has_decided_is_added_once_and_what_is_no_decision_is_quarantined(
    copied, rivals, encoder, models, bronze
):
    documents = read_documents(copied, "page", DAYS, encoder)
    made = answers_about(documents.head(1).with_columns(document_id=pl.lit("of the API")), models)
    record = {
        "decision_id": made["decision_id"][0],
        "tenant_id": "acme",
        "asked_on": DAYS[0],
        "decision": json.loads(made.head(1).write_json())[0]
        | {"served_by": "api", "decided_at": f"{DAYS[0]}T09:00:00Z"},
    }
    broken = record | {"decision_id": "none", "decision": {"label": "positive"}}
    copied.replace_all(api_decisions.SCHEMA.table, bronze(api_decisions.SCHEMA, record, record, broken))
    _, stored = answered_by(copied, rivals, encoder)
    found = stored.filter(served_by="api")
    assert found.select(DECISION.names).equals(made.head(1).select(DECISION.names))
    rules = copied.read("silver/quarantine").filter(pl.col("table") == TABLE)["rule"].to_list()
    assert rules == ["raised:ValueError"]
    assert kept(copied, encoder.transform_id) is not None
    assert answered_by(copied, rivals, encoder)[1].filter(served_by="api").height == 1


@pytest.mark.slow
def test_the_version_that_was_rolled_back_to_is_asked_about_the_last_week(copied, rivals, encoder):
    def behind(today):
        found = stale(copied, {TABLE: INPUTS}, date.fromisoformat(today), traffic=rivals.traffic())
        return [day for day in found[TABLE] if day in DAYS]  # that of p3 is never made

    assert behind("2026-11-30") == DAYS, "they have never been made"
    assert answered_by(copied, rivals, encoder)[0] == [(2, "champion")]
    assert behind("2026-11-10") == []
    promotion.roll_back(rivals, "sentiment", 1, by="ada", why="complaints")
    assert (behind("2026-11-10"), behind("2026-11-16"), behind("2026-11-17")) == (DAYS, DAYS[1:], [])
    before = copied.version(TABLE)
    asked, stored = answered_by(copied, rivals, encoder)
    assert copied.version(TABLE) == before + 1, "a kill leaves all kinds of documents to be asked about, or none"
    assert asked == [(1, "champion"), (2, "champion")]
    assert newest_answers(stored, rivals.traffic())["model_version"].unique().to_list() == [1]
    assert behind("2026-11-10") == []
    promotion.set_traffic(rivals, "sentiment", 2, 0.0, by="ada", why="a trial")
    assert behind("2026-11-10") == DAYS


@pytest.mark.slow
def test_batch_and_stream_split_traffic_alike_and_a_shadow_reaches_no_consumer(copied, rivals, encoder, tmp_path):
    promotion.set_traffic(rivals, "sentiment", 1, 0.5, by="ada", why="a trial")
    arms, batch = answered_by(copied, rivals, encoder)
    assert batch.filter(pl.col("model_version") == 2).height == 4, "the champion is asked about every document"
    assert batch.filter(pl.col("traffic_arm") != "shadow").height == 4, "each document has one answer"
    again, _ = answered_by(copied, rivals, encoder)
    assert again == arms

    stream = Lakehouse(uri=str(shutil.copytree(copied.uri, tmp_path / "stream")))
    shutil.rmtree(f"{stream.uri}/silver/decisions")
    embeddings, state = EmbeddingCache(stream, encoder), pipelines.StreamState(stream)
    store = LocalStore(tmp_path / "signals")
    context = pipelines.ProcessingContext(serving(rivals, encoder), "run", embeddings, state, store)
    rows = {"silver/pages": stream.read("silver/pages", DAYS)}
    for table in ("silver/embeddings", "silver/decisions"):
        rows[table] = pipelines.HOPS[table](context, rows, pipelines.Prefetch(encoder.encoder_id))
    read = rows["silver/decisions"]
    of = ["decision_id", "model_version", "traffic_arm", "label", "score"]
    assert stream.read("silver/decisions").select(of).sort(of).equals(batch.select(of).sort(of))
    assert "shadow" not in read["traffic_arm"].to_list()
    assert read.select(ASKED_ABOUT).is_unique().all()
    assert read.height == 4
