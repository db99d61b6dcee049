import importlib.util
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import signals
from resources.encoder import tokenizer
from signals.classify import DOCUMENT, Models, classify, load_model
from signals.documents.pages import Fetch, article
from signals.models.encoder import DIMENSIONS, MAX_TOKENS, Int8Encoder
from signals.models.heads import LinearHead
from signals.models.ngrams import FEATURES
from signals.models.transform import (
    ANSWER,
    NOT_FOLLOWED,
    VECTOR,
    TransformMismatchError,
    encoder_id,
    require_same,
    sources,
    transform_id,
)
from signals.tasks import TASKS
from signals.traffic import Traffic

PAGE = f"<html><head><title>Harbour</title></head><body><article><p>{'The council opened a bridge. ' * 9}</p></article>"
SIGNALS = Path(signals.__file__).parent
OF_VECTORS, OF_ANSWERS = (sorted(sources(modules)[0]) for modules in (VECTOR, ANSWER))


@pytest.fixture
def elsewhere(tmp_path):
    """Return a function that reads both ids from a copy of the sources, after rewriting a module."""
    shutil.copytree(SIGNALS, tmp_path / "signals")

    def ids(changed=None, rewrite=None):
        if changed:
            file = tmp_path / f"{changed.replace('.', '/')}.py"
            file.write_text(rewrite(file.read_text(encoding="utf-8")), encoding="utf-8")
        path = tmp_path / "signals" / "models" / "transform.py"
        spec = importlib.util.spec_from_file_location("copied_transform", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.encoder_id("weights"), module.transform_id("weights")

    return ids


def with_a_line(code):
    return f"{code}\nADDED = 1\n"


def with_other_prose(code):
    # A first line is a docstring's, and every function's first statement may be one.
    return f'"""Another docstring."""\n{code.split(chr(34) * 3, 2)[2]}\n# A comment.\n'


def test_ids_are_stable_and_change_with_the_encoder(encoder):
    assert re.fullmatch("[0-9a-f]{16}", transform_id("weights"))
    assert re.fullmatch("[0-9a-f]{16}", encoder_id("weights"))
    assert transform_id("weights") != encoder_id("weights")
    assert transform_id("weights") != transform_id("other weights")
    assert encoder_id("weights") != encoder_id("other weights")
    assert encoder.transform_id not in {transform_id("weights"), encoder.encoder_id}


def test_the_encoder_names_weights_tokenizer_and_precision(encoder):
    precision, weights, tokenizer, tokens = encoder._loaded.identity.split(":")
    assert (precision, tokens) == ("int8", str(MAX_TOKENS))
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in (weights, tokenizer))
    assert encoder.transform_id == transform_id(encoder._loaded.identity)
    assert encoder.encoder_id == encoder_id(encoder._loaded.identity)


@pytest.mark.parametrize("module", OF_VECTORS)
def test_what_changes_a_vector_changes_both_ids(elsewhere, module):
    before, after = elsewhere(), elsewhere(module, with_a_line)
    assert before == (encoder_id("weights"), transform_id("weights"))
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("module", sorted({*OF_ANSWERS} - {*OF_VECTORS}))
def test_what_changes_a_score_changes_the_transform_and_keeps_the_vectors(elsewhere, module):
    before, after = elsewhere(), elsewhere(module, with_a_line)
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("module", OF_ANSWERS)
def test_comments_and_docstrings_change_no_id(elsewhere, module):
    assert elsewhere() == elsewhere(module, with_other_prose)


def test_all_code_that_a_document_goes_through_is_named(encoder, tmp_path):
    """Whatever of ours runs between a page and its answer is code that the id is made from."""
    labels = TASKS["sentiment"].labels
    weights = [np.zeros((rows, len(labels)), np.float32) for rows in (DIMENSIONS, FEATURES)]
    head = LinearHead(labels, *weights, np.zeros(len(labels), np.float32))
    head.save(tmp_path, task="sentiment", transform_id="running")
    ran = set()

    def note(frame, event, _):
        if event == "call":
            ran.add(frame.f_globals.get("__name__", ""))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        read = article(Fetch("https://a.example/1", html=PAGE))
        model = load_model(tmp_path, "sentiment", 1, "digest", "running")
        models = Models({"sentiment": Traffic(1)}, {"sentiment": model})
        document = {"kind": "page"} | {name: read[name] for name in ("title", "text", "content_hash")}
        batch = pa.RecordBatch.from_pylist([document], schema=DOCUMENT)
        assert len(list(classify([batch], models, Int8Encoder(encoder._loaded.weights, tokenizer(), 1)))) == 1
    finally:
        sys.setprofile(before)
    ours = {name for name in ran if name.startswith("signals.") and not name.startswith(NOT_FOLLOWED)}
    assert {"signals.classify", "signals.documents.text", "signals.models.heads", "signals.models.encoder"} <= ours
    assert ours <= {*OF_ANSWERS}


def test_another_unicode_changes_both_ids(elsewhere, monkeypatch):
    before = elsewhere()
    monkeypatch.setattr("unicodedata.unidata_version", "1.1.0")
    after = elsewhere()
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "module",
    ["signals.models.training", "signals.models.metrics", "signals.risks", "signals.features.emoji"],
)
def test_what_changes_no_score_changes_no_id(elsewhere, module):
    assert elsewhere() == elsewhere(module, with_a_line)


def test_another_transformation_is_refused_with_both_ids_named():
    require_same("threat version 3", "a" * 16, "a" * 16)
    with pytest.raises(TransformMismatchError) as refused:
        require_same("threat version 3", "a" * 16, "b" * 16)
    assert "threat version 3" in str(refused.value)
    assert "a" * 16 in str(refused.value)
    assert "b" * 16 in str(refused.value)
