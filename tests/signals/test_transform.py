import importlib.util
import re
import shutil
from pathlib import Path

import pytest

import signals
from signals.encoder import MAX_TOKENS
from signals.transform import TransformMismatchError, encoder_id, require_same, transform_id

SIGNALS = Path(signals.__file__).parent


@pytest.fixture
def elsewhere(tmp_path):
    """Return a function that reads both ids from a copy of the sources, after changing one file by a line."""
    for path in SIGNALS.glob("*.py"):
        shutil.copy(path, tmp_path)

    def ids(changed=None):
        if changed:
            with (tmp_path / changed).open("a", encoding="utf-8") as file:
                file.write("# changed\n")
        spec = importlib.util.spec_from_file_location("copied_transform", tmp_path / "transform.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.encoder_id("weights"), module.transform_id("weights")

    return ids


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


@pytest.mark.parametrize("source", ["text.py", "encoder.py", "encoder_graph.py"])
def test_what_changes_a_vector_changes_both_ids(elsewhere, source):
    before, after = elsewhere(), elsewhere(source)
    assert before == (encoder_id("weights"), transform_id("weights"))
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "source",
    ["ngrams.py", "heads.py", "pages.py", "page_bytes.py", "page_metadata.py", "images.py", "scoring.py"],
)
def test_what_changes_a_score_changes_the_transform_and_keeps_the_vectors(elsewhere, source):
    before, after = elsewhere(), elsewhere(source)
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_another_unicode_changes_both_ids(elsewhere, monkeypatch):
    before = elsewhere()
    monkeypatch.setattr("unicodedata.unidata_version", "1.1.0")
    after = elsewhere()
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("source", ["training.py", "metrics.py", "keywords.py", "emoji.py", "urls.py"])
def test_what_changes_no_score_changes_no_id(elsewhere, source):
    assert elsewhere() == elsewhere(source)


def test_another_transformation_is_refused_with_both_ids_named():
    require_same("threat version 3", "a" * 16, "a" * 16)
    with pytest.raises(TransformMismatchError) as refused:
        require_same("threat version 3", "a" * 16, "b" * 16)
    assert "threat version 3" in str(refused.value)
    assert "a" * 16 in str(refused.value)
    assert "b" * 16 in str(refused.value)
