import io
import json
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import signals
from signals.classify import DECISION, DOCUMENT, Models, classify, decision_id, load_model
from signals.documents.text import content_hash
from signals.models.encoder import DIMENSIONS
from signals.models.finer import FinerLabels
from signals.models.heads import LinearHead, directory_digest
from signals.models.ngrams import FEATURES, ngrams
from signals.models.pictures import package
from signals.models.training import seed_texts, train
from signals.models.transform import TransformMismatchError
from signals.tasks import TASKS
from signals.traffic import Traffic

RUNNING = "0123456789abcdef"
TEXTS = [
    "The red fox jumped over the hill.",
    "I love this so much 😀",
    "",
    "Bank results fell in the third quarter.",
    "You are a fool and everybody knows it.",
]


def saved_head(folder, task, **record):
    labels = TASKS[task].labels
    rng = np.random.default_rng(len(labels))
    vector, ngram = ((rng.standard_normal((n, len(labels))) * 2).astype(np.float32) for n in (DIMENSIONS, FEATURES))
    bias = rng.standard_normal(len(labels)).astype(np.float32)
    folder.mkdir(exist_ok=True)
    LinearHead(labels, vector, ngram, bias, 0.9).save(folder, **({"task": task, "transform_id": RUNNING} | record))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    found = {task: saved_head(root / task, task) for task in ("sentiment", "irony")}
    found["image_threat"] = root / "image_threat"
    found["image_threat"].mkdir()
    package(found["image_threat"], TASKS["image_threat"].labels, task="image_threat", transform_id=RUNNING)
    return found


@pytest.fixture(scope="module")
def models(folders):
    found = {task: load_model(folder, task, 7, directory_digest(folder), RUNNING) for task, folder in folders.items()}
    return Models({task: Traffic(7) for task in found}, found)


@pytest.fixture(scope="module")
def score(models, encoder):
    def scored(batches, models=models):
        return classify(batches, models, encoder)

    return scored


@pytest.fixture(scope="module")
def vectors(encoder):
    return encoder.encode(TEXTS)


@pytest.fixture(scope="module")
def batch(vectors):
    def of(kind, rows):
        return pa.RecordBatch.from_pylist(
            [
                {
                    "document_id": f"d{place}",
                    "kind": kind,
                    "tenant_id": "default" if row % 2 else "acme",
                    "content_hash": content_hash(TEXTS[row]),
                    "text": TEXTS[row],
                    "vector": vectors[row].tolist(),
                    "body": None,
                }
                for place, row in enumerate(rows)
            ],
            schema=DOCUMENT,
        )

    return of


def pictures(*bodies):
    rows = [
        {"document_id": f"p{i}", "kind": "image", "tenant_id": "default", "content_hash": f"{i:064x}", "body": body}
        for i, body in enumerate(bodies)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DOCUMENT)


def png(colour):
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(stream, "PNG")
    return stream.getvalue()


def test_decisions_have_the_schema_and_name_document_and_model(batch, score, folders):
    (found,) = score([batch("page", [0, 1, 2])])
    assert found.schema.equals(DECISION)
    assert found["document_id"].to_pylist() == ["d0", "d1", "d2"]
    assert found["kind"].to_pylist() == ["page"] * 3
    assert found["tenant_id"].to_pylist() == ["acme", "default", "acme"]
    assert found["content_hash"].to_pylist() == [content_hash(text) for text in TEXTS[:3]]
    expected = ("sentiment", "sentiment", 7, directory_digest(folders["sentiment"]), RUNNING)
    names = ("task", "model_name", "model_version", "model_digest", "transform_id")
    assert [tuple(row[name] for name in names) for row in found.to_pylist()] == [expected] * 3


def test_an_answer_is_the_best_score_and_scores_are_those_of_the_model(batch, models, score, vectors):
    (found,) = score([batch("page", range(len(TEXTS)))])
    exact = models.champions["sentiment"].scorer.scores(vectors, ngrams(TEXTS))
    for row, scores in zip(found.to_pylist(), exact, strict=True):
        if row["abstention"]:
            assert (row["content_hash"], row["abstention"]) == (content_hash(""), "no_text")
            continue
        assert [one["label"] for one in row["scores"]] == ["negative", "neutral", "positive"]
        assert [one["score"] for one in row["scores"]] == scores.round(6).tolist()
        assert row["score"] == max(one["score"] for one in row["scores"])
        assert {"label": row["label"], "score": row["score"]} in row["scores"]


@pytest.mark.parametrize(("kind", "tasks"), [("page", ["sentiment"]), ("message", ["sentiment", "irony"])])
def test_each_document_gets_one_decision_a_task_of_its_kind_in_order(batch, score, kind, tasks):
    found = list(score([batch(kind, [3, 0, 3]), batch(kind, [1])]))
    rows = [(row["task"], row["document_id"]) for one in found for row in one.to_pylist()]
    assert rows == [(t, f"d{i}") for t in tasks for i in range(3)] + [(t, "d0") for t in tasks]


def test_pictures_are_asked_about_pictures_only(score):
    bodies = [png("white"), png("red"), png("white")]
    (found,) = score([pictures(*bodies)])
    assert found.schema.equals(DECISION)
    assert found["task"].to_pylist() == ["image_threat"] * 3
    assert found["label"].to_pylist() == ["safe"] * 3
    scores = [{one["label"]: one["score"] for one in row} for row in found["scores"].to_pylist()]
    assert scores[0] == scores[2] != scores[1]
    assert all(one["safe"] + one["adult"] == pytest.approx(1, abs=2e-6) for one in scores)


def test_nothing_in_nothing_out(batch, score):
    assert list(score([])) == []
    assert list(score([batch("page", [])])) == []
    assert list(score([batch("page", [0])], Models({}, {}))) == []


@settings(max_examples=20)
@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=12), st.data())
def test_decisions_do_not_depend_on_how_documents_are_batched(batch, score, rows, data):
    whole = batch("message", rows)
    cuts = sorted({0, *data.draw(st.lists(st.integers(0, len(rows)), max_size=4)), len(rows)})
    parts = [whole.slice(start, end - start) for start, end in pairwise(cuts)]
    apart = pa.Table.from_batches(score(parts), DECISION).to_pylist()
    together = pa.Table.from_batches(score([whole]), DECISION).to_pylist()
    assert sorted(apart, key=lambda row: (row["task"], row["document_id"])) == sorted(
        together, key=lambda row: (row["task"], row["document_id"])
    )


def test_a_text_without_a_vector_is_encoded_and_answered_alike(batch, score):
    whole = batch("page", range(len(TEXTS)))
    known = whole["vector"].to_pylist()
    for there in ([], [1, 3], [0, 1, 2, 3, 4]):
        vectors = pa.array([known[row] if row in there else None for row in range(len(TEXTS))], whole["vector"].type)
        place = DOCUMENT.get_field_index("vector")
        assert list(score([whole.set_column(place, "vector", vectors)])) == list(score([whole]))


def test_a_title_is_read_above_the_text(batch, score, models, encoder):
    place = DOCUMENT.get_field_index("title")
    titled = batch("page", range(len(TEXTS))).set_column(place, "title", pa.array(["Market", "", "Only", "A", "B"]))
    unknown = titled.set_column(
        DOCUMENT.get_field_index("vector"), "vector", pa.nulls(len(TEXTS), DOCUMENT.field("vector").type)
    )
    (found,) = score([pa.RecordBatch.from_arrays(unknown.columns, schema=DOCUMENT)])
    read = [f"Market\n{TEXTS[0]}", TEXTS[1], "Only", f"A\n{TEXTS[3]}", f"B\n{TEXTS[4]}"]
    exact = models.champions["sentiment"].scorer.scores(encoder.encode(read), ngrams(read)).round(6).max(axis=1)
    assert found["score"].to_pylist() == exact.tolist()


def test_a_decision_has_the_same_id_whenever_it_is_made_and_no_other_decision_has_it(batch, score):
    first, second = (list(score([batch("message", [0, 1, 0])])) for _ in range(2))
    ids = [one for found in first for one in found["decision_id"].to_pylist()]
    assert ids == [one for found in second for one in found["decision_id"].to_pylist()]
    assert len(set(ids)) == 6


def test_each_part_of_its_key_changes_a_decision_id():
    day = date(2026, 11, 9)
    key = (("t", "d", "c", day), "threat", "threat", 1)
    documents = [("u", "d", "c"), ("t", "e", "c"), ("t", "d", "x"), ("t", "dc", ""), ("", "d", "c")]
    documents = [*((*one, day) for one in documents), ("t", "d", "c", date(2026, 11, 10)), ("t", "d", "c", None)]
    others = [(key[0], "hate", *key[2:]), (*key[:2], "other", 1), (*key[:3], 2)]
    found = [decision_id(*one) for one in (key, *((one, *key[1:]) for one in documents), *others)]
    assert len(set(found)) == len(found)
    assert all(len(one) == 32 for one in found)
    odd = ("t", "\ud800", None, day)
    assert decision_id(odd, *key[1:]) == decision_id(odd, *key[1:])


def test_a_model_of_another_transformation_does_not_load_and_both_ids_are_named(folders, tmp_path):
    saved_head(tmp_path, "sentiment", transform_id="f" * 16)
    with pytest.raises(TransformMismatchError) as refused:
        load_model(tmp_path, "sentiment", 3, "d" * 64, RUNNING)
    assert "sentiment version 3" in str(refused.value)
    assert "f" * 16 in str(refused.value)
    assert RUNNING in str(refused.value)
    with pytest.raises(TransformMismatchError):
        load_model(folders["image_threat"], "image_threat", 1, "d" * 64, "f" * 16)


def test_a_model_whose_recorded_transformation_is_altered_afterwards_does_not_load(tmp_path):
    saved_head(tmp_path, "sentiment")
    assert load_model(tmp_path, "sentiment", 3, "d" * 64, RUNNING).transform_id == RUNNING
    path = tmp_path / "model.json"
    path.write_text(path.read_text(encoding="utf-8").replace(RUNNING, "feedfeedfeedfeed"), encoding="utf-8")
    with pytest.raises(TransformMismatchError, match=f"feedfeedfeedfeed, but {RUNNING}"):
        load_model(tmp_path, "sentiment", 3, "d" * 64, RUNNING)


def test_a_model_of_an_unknown_family_does_not_load(tmp_path):
    saved_head(tmp_path, "sentiment")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"family": "pickle"}), encoding="utf-8")
    with pytest.raises(ValueError, match="sentiment version 3 is of unknown family 'pickle'"):
        load_model(tmp_path, "sentiment", 3, "d" * 64, RUNNING)


def test_nothing_in_signals_loads_a_pickle():
    for path in Path(signals.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert not any(word in source for word in ("import pickle", "joblib", "torch.load", "allow_pickle")), path


THREAT = TASKS["threat"]
HARMLESS = "Our guide to a quiet weekend, with a walk by the lake and a bowl of soup. "
ALARM = "Militants claimed the bomb attack on the market, in which the suspects had threatened more attacks. "


@pytest.fixture(scope="module")
def threat(encoder, tmp_path_factory):
    """Return a model of threat that has learnt a few sentences."""
    texts = [f"{text}{number}" for number in range(60) for text in (HARMLESS, ALARM)]
    labels = ["none", "terrorism"] * 60
    split = ["train"] * 116 + ["val"] * 4
    hashes = [content_hash(text) for text in texts]
    rows = pl.DataFrame({"content_hash": hashes, "text": texts, "label": labels, "split": split, "language": "en"})
    seeds, _ = seed_texts(THREAT)
    head = train(THREAT, rows, encoder.encode(texts), encoder.encode(seeds)).head
    folder = tmp_path_factory.mktemp("threat")
    head.save(folder, task="threat", transform_id=RUNNING)
    return Models({"threat": Traffic(1)}, {"threat": load_model(folder, "threat", 1, "d" * 64, RUNNING)})


def page(text, *, kind="page", language="en"):
    row = {"document_id": "d", "kind": kind, "tenant_id": "t", "content_hash": content_hash(text), "text": text}
    return pa.RecordBatch.from_pylist([row | {"language": language}], schema=DOCUMENT)


def answer(encoder, models, batch):
    (found,) = classify([batch], models, encoder)
    return found.to_pylist()[0]


@pytest.mark.parametrize("place", [0, 1, 20, 100, 200, 259])
def test_what_threatens_is_found_wherever_it_stands_and_told_by_its_passage_and_words(encoder, threat, place):
    text = HARMLESS * place + ALARM * 10 + HARMLESS * (260 - place)
    row = answer(encoder, threat, page(text))
    assert row["label"] == "terrorism"
    (found,) = [one for one in row["evidence"] if one["label"] == "terrorism"]
    assert "Militants" in text[found["start"] : found["end"]]
    assert {"bomb", "militants"} & set(found["words"])
    assert found["share"] is None if place == 0 else found["share"] < 0.1


def test_a_long_page_without_it_is_harmless_and_a_message_is_read_as_one_text(encoder, threat):
    assert answer(encoder, threat, page(HARMLESS * 260))["label"] == "none"
    lead = answer(encoder, threat, page(HARMLESS * 200 + ALARM * 10, kind="message"))
    assert (lead["label"], lead["evidence"]) == ("none", [])


def test_a_page_of_one_passage_is_answered_as_a_text(encoder, threat):
    for text in (HARMLESS, ALARM):
        as_page, as_message = (answer(encoder, threat, page(text, kind=kind)) for kind in ("page", "message"))
        assert as_page["scores"] == as_message["scores"]
        assert sum(one["score"] for one in as_page["scores"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "language", "abstention"),
    [
        (ALARM, "fr", "language"),
        ("", "fr", "no_text"),
        (" \n", None, "no_text"),
        (ALARM, None, None),
        (ALARM, "en", None),
    ],
)
def test_a_text_that_a_model_was_not_measured_on_has_no_answer_but_the_reason(
    encoder, threat, text, language, abstention
):
    row = answer(encoder, threat, page(text, language=language))
    assert row["abstention"] == abstention
    if abstention:
        assert (row["label"], row["score"], row["scores"], row["evidence"]) == (None, None, [], [])
    else:
        assert row["label"] == "terrorism"


def test_topics_are_those_that_are_likely_enough_with_finer_ones_below_them(encoder, tmp_path):
    task = TASKS["iab_category"]
    vector = encoder.encode([HARMLESS])[0]
    weights = np.zeros((DIMENSIONS, len(task.labels)), np.float32)
    weights[:, task.labels.index("422")] = vector * 20
    finer = FinerLabels(("423", "425"), ("422", "422"), ("Pets > Birds", "Pets > Cats"), np.stack([vector, -vector]))
    nothing = np.zeros((FEATURES, len(task.labels)), np.float32)
    head = LinearHead(task.labels, weights, nothing, nothing[0], finer=finer)
    head.save(tmp_path, task=task.name, transform_id=RUNNING)
    models = Models({task.name: Traffic(1)}, {task.name: load_model(tmp_path, task.name, 1, "d" * 64, RUNNING)})
    row = answer(encoder, models, page(HARMLESS))
    expected = [("422", task.names["422"], 1), ("423", "Pets > Birds", 2)]
    assert [(topic["id"], topic["path"], topic["tier"]) for topic in row["topics"]] == expected
    assert row["label"] == "422"
    assert answer(encoder, models, page("Quarterly results of the bank fell."))["topics"] == []


def test_a_long_page_is_answered_alike_whatever_pages_are_read_with_it(encoder, threat):
    texts = [HARMLESS * 30 + ALARM * 10, ALARM, HARMLESS * 90, ALARM * 10 + HARMLESS * 60]
    pages = [page(text) for text in texts]
    together = pa.Table.from_batches(pages).combine_chunks().to_batches()[0]
    (found,) = classify([together], threat, encoder)
    assert found.to_pylist() == [answer(encoder, threat, one) for one in pages]


def test_an_answer_of_which_the_model_is_not_sure_has_scores_but_no_label(encoder, threat):
    champion = threat.champions["threat"]
    scored = answer(encoder, threat, page(ALARM))
    never_sure = replace(champion, scorer=replace(champion.scorer, sure_from=1.1))
    unsure = answer(encoder, replace(threat, champions={"threat": never_sure}), page(ALARM))
    assert (unsure["label"], unsure["abstention"]) == (None, "not_sure")
    for kept in ("score", "scores", "evidence"):
        assert unsure[kept] == scored[kept]
    nothing = answer(encoder, replace(threat, champions={"threat": never_sure}), page("", language="fr"))
    assert (nothing["abstention"], nothing["scores"]) == ("no_text", [])


@pytest.mark.parametrize(("none", "label"), [(0.05, "terrorism"), (0.25, None), (0.4, None), (0.95, "none")])
def test_what_may_be_any_of_several_threats_is_surely_one(encoder, threat, none, label):
    likely = np.full(len(THREAT.labels), 1e-9)
    likely[THREAT.labels.index("none")] = none
    likely[[THREAT.labels.index(one) for one in ("terrorism", "death_injury", "crime")]] = np.array([0.4, 0.3, 0.3]) * (
        1 - none
    )
    weights = (np.zeros((rows, len(likely)), np.float32) for rows in (DIMENSIONS, FEATURES))
    head = LinearHead(THREAT.labels, *weights, np.log(likely).astype(np.float32), sure_from=0.9)
    models = replace(threat, champions={"threat": replace(threat.champions["threat"], scorer=head)})
    assert answer(encoder, models, page(ALARM))["label"] == label
