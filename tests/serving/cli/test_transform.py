"""An upgrade of a library, as a person compares it: what gives the same carries over."""

import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from governance.gates.carry_over import policy
from platform_assets.bronze import page_fetches
from platform_assets.bronze.social_messages import SCHEMA
from platform_assets.models.heads import model_asset
from platform_assets.operations import upgrades
from platform_assets.parsing import parse_records
from platform_assets.silver import decisions, embeddings
from platform_assets.silver.messages import cleaned
from platform_assets.silver.pages import extracted
from resources import encoder as encoder_resource
from resources import transform_bundles
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.landing.records import Record
from resources.registry.models import Registry
from resources.serving_models import serving
from resources.transform_comparisons import recorded_comparisons
from signals.models import encoder as encoder_module
from signals.models import transform
from signals.models.transform import TransformMismatchError
from tests.platform_assets.models.conftest import IRONY, NOW, PLACES, SAID, answers, land
from tests.support.cli import seamless

pytestmark = pytest.mark.slow
RARE = "\u0436"
URL = "https://news.example/harbour"
PAGE = f"<html><head><title>Harbour</title></head><body><article><p>{'The council opened a bridge. ' * 9}</p></article>"


def parts(folder):
    return Lakehouse(uri=str(folder / "lake")), Registry(
        tracking_uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts"), cache=str(folder / "models")
    )


@pytest.fixture(scope="module")
def before(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a platform with a head that has decided about messages, of which one has a rare letter."""
    folder = tmp_path_factory.mktemp("before")
    shutil.copy(blank, folder / "mlflow.db")
    lake, registry = parts(folder)
    encoder = Encoder(registry=registry, lakehouse=lake)
    land(lake, encoder, answers())
    resources = {"lakehouse": lake, "encoder": encoder, "registry": registry}
    assert dg.materialize([model_asset(IRONY)], resources=resources).success
    said = [pattern.format(place) for pair in SAID.values() for pattern in pair for place in PLACES]
    said.append(f"The {RARE} museum opens at ten.")
    received, broken = parse_records(
        [Record(n, {"message_id": f"m{n}", "author_id": "a", "text": text}) for n, text in enumerate(said, 1)],
        SCHEMA,
        "messages/a.jsonl",
        NOW,
    )
    assert broken.is_empty()
    lake.insert_missing(SCHEMA.table, received, ["message_id"])
    profiles = {"tenant_id": pl.String, "user_id": pl.String, "country": pl.String, "consent": pl.Boolean}
    profiles |= {name: pl.Datetime("us", "UTC") for name in ("updated_at", "received_at")}
    profiles |= {"source": pl.String, "position": pl.Int64}
    messages = cleaned(received, pl.DataFrame(schema=profiles))
    lake.insert_missing("silver/messages", messages, ["message_id"])
    fetched, _ = parse_records([Record(1, {"url": URL, "html": PAGE})], page_fetches.SCHEMA, "pages/a.jsonl", NOW)
    lake.insert_missing(page_fetches.SCHEMA.table, fetched, ["url"])
    page = extracted(fetched)
    assert page["rule"].to_list() == [None]
    lake.insert_missing("silver/pages", page.drop("rule"), ["document_id"])
    embeddings.vectors(lake, encoder, page)
    documents = decisions.documents_of("message", messages, embeddings.vectors(lake, encoder, messages))
    models = serving(registry, encoder).models
    found, broken = decisions.decided(
        documents, models, encoder, input_table="silver/messages", input_version=0, run_id="a"
    )
    assert broken.is_empty()
    lake.insert_missing(decisions.TABLE, found, ["decision_id"])
    transform_bundles.keep(lake, encoder)
    return folder


@pytest.fixture
def home(before, tmp_path):
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def upgraded(monkeypatch):
    """Return a function that has a library be of another version, and its tokenizer read the rare letter as another."""

    def upgrade(library, reads_as=RARE):
        known, tokens_of = transform.version, encoder_module.tokens_of
        monkeypatch.setattr(transform, "version", lambda name: "99.0" if name == library else known(name))

        class Tokens:
            def __init__(self, file):
                self.tokens = tokens_of(file)

            def encode_batch(self, texts):
                return self.tokens.encode_batch([text.replace(RARE, reads_as) for text in texts])

        monkeypatch.setattr(encoder_module, "tokens_of", Tokens)
        forget()

    def forget():
        transform.identity_of.cache_clear()
        encoder_resource._load_int8.cache_clear()

    yield upgrade
    monkeypatch.undo()
    forget()


def refused(lake, registry):
    try:
        registry.load(registry.champion("irony"), Encoder().transform_id, recorded_comparisons(lake))
    except TransformMismatchError:
        return True
    return False


@pytest.mark.parametrize("library", ["onnxruntime", "tokenizers", "trafilatura"])
def test_where_an_upgrade_gives_the_same_models_and_vectors_carry_over(home, upgraded, library):
    lake, registry = parts(home)
    old = Encoder()
    before = (old.transform_id, old.encoder_id)
    assert not refused(lake, registry)
    upgraded(library)
    now = Encoder()
    assert now.transform_id != before[0]
    assert refused(lake, registry)
    said = seamless(home, "transform", "compare")
    assert said.returncode == 0, said.stderr
    assert f"{before[0]} and {now.transform_id} give the same" in said.stdout
    assert "1 models carry over" in said.stdout
    assert not refused(lake, registry)
    stored = {id_: rows.height for (id_,), rows in lake.read(embeddings.TABLE).group_by("encoder_id")}
    if library == "trafilatura":
        assert now.encoder_id == before[1]
        assert "stored vectors stay" in said.stdout
    else:
        assert stored[now.encoder_id] == stored[before[1]]
        assert f"{stored[before[1]]} stored vectors carry over" in said.stdout


def test_an_upgrade_that_reads_a_rare_letter_otherwise_is_refused_and_the_document_named(home, upgraded, monkeypatch):
    # No more documents than hold every character.
    monkeypatch.setattr(upgrades, "policy", lambda: replace(policy(), documents=0))
    lake, registry = parts(home)
    before = {*lake.read(embeddings.TABLE)["encoder_id"]}
    upgraded("tokenizers", reads_as="x")
    said = seamless(home, "transform", "compare")
    assert said.returncode == 1
    assert f"'The {RARE} museum opens at ten.': coordinate" in said.stderr
    assert "1 models retire" in said.stderr
    assert refused(lake, registry)
    assert {*lake.read(embeddings.TABLE)["encoder_id"]} == before


def test_an_upgrade_that_extracts_a_page_otherwise_is_refused_and_the_page_named(home, upgraded):
    lake, registry = parts(home)
    page = lake.read("silver/pages").with_columns(text=pl.lit("Home. The council."), content_hash=pl.lit("0" * 64))
    lake.replace_all("silver/pages", page)
    embeddings.vectors(lake, Encoder(), page)
    upgraded("trafilatura")
    said = seamless(home, "transform", "compare")
    assert said.returncode == 1
    assert f"{URL}: its text differs" in said.stderr
    assert refused(lake, registry)


def test_without_an_upgrade_nothing_is_compared(home):
    said = seamless(home, "transform", "compare")
    assert said.returncode == 0, said.stderr
    assert "there is nothing to compare" in said.stdout


def test_of_a_transformation_that_never_decided_nothing_is_known_and_nothing_carries_over(home, upgraded):
    for file in (home / "lake" / transform_bundles.FOLDER).iterdir():
        file.unlink()
    upgraded("onnxruntime")
    said = seamless(home, "transform", "compare")
    assert said.returncode == 1
    assert "nothing was kept" in said.stderr
