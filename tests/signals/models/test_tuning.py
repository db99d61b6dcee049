import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from resources.encoder import packaged_weights, tokenizer
from signals.documents.text import content_hash
from signals.models import tuning
from signals.models.encoder import Int8Encoder
from signals.models.transform import encoder_id
from signals.models.tuning import lessons, tune
from signals.splits import calibrates

WORDS = ("harbour", "river", "market", "school", "garden", "office", "station", "bridge", "castle", "forest")
SAID = {
    "praise": ("What a lovely {} this is.", "I adore the {} more each year."),
    "blame": ("That {} is a dreadful waste.", "I despise the {} more each year."),
}


def labels(*, task="toy", split="train"):
    rows = [
        {"task": task, "label": label, "text": f"{pattern.format(word)} {number}", "split": split}
        for label, patterns in SAID.items()
        for pattern in patterns
        for word in WORDS
        for number in range(3)
    ]
    return pl.DataFrame(rows).with_columns(
        content_hash=pl.col("text").map_elements(content_hash, return_dtype=pl.String),
        labelled_at=pl.lit(0),
        label_id=pl.int_range(pl.len()).cast(pl.String),
    )


@pytest.fixture(autouse=True)
def few_rows_teach(monkeypatch):
    """Where a processor has no products in bfloat16, each example takes ten times as long."""
    for name, value in {"TUNING_ROWS": 20, "LEAST_ROWS": 3, "BATCH": 8, "RATE": 1e-3, "HEAD_RATE": 7e-3}.items():
        monkeypatch.setattr(tuning, name, value)


@pytest.fixture(scope="module")
def weights():
    """The packaged encoder's first two layers: enough to learn something."""
    kept = load_file(packaged_weights())
    return {name: value for name, value in kept.items() if not name.startswith("encoder.layer.") or name[14] in "01"}


def tuned(weights, rows, examples=24):
    return tune(weights, tokenizer(), rows, asked=frozenset({"toy"}), examples=examples, threads=1)


def test_what_is_held_out_or_calibrates_or_is_too_little_teaches_nothing():
    every = labels()
    calibrating = set(every.filter(calibrates())["text"])
    assert calibrating
    rows = pl.concat(
        [
            every,
            labels(task="held", split="val").head(1),
            labels(task="small").head(10),
            every.head(2).with_columns(
                label=pl.lit("rare"), text=pl.lit("x") + pl.col("text"), content_hash=pl.lit("f" * 64)
            ),
            every.head(1).with_columns(text=pl.lit(""), content_hash=pl.lit("e" * 64)),
        ]
    )
    found = lessons(rows)
    assert set(found["task"]) == {"toy"}
    assert set(found["text"]) == set(every["text"]) - calibrating - {every["text"][0]}
    assert found.equals(lessons(rows.sample(fraction=1, shuffle=True, seed=1)))


@pytest.mark.parametrize("fast", [False, True])
def test_the_same_rows_give_the_same_weights_to_the_bit_and_words_keep_their_vectors(weights, monkeypatch, fast):
    monkeypatch.setattr(tuning, "bfloat16_is_fast", lambda _: fast)
    rows = lessons(labels())
    first, second = tuned(weights, rows), tuned(weights, rows)
    assert {name: value.tobytes() for name, value in first.items()} == {n: v.tobytes() for n, v in second.items()}
    assert set(first) <= set(weights)
    for name, value in first.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, weights[name]) == name.startswith("embeddings."), name


@pytest.mark.parametrize("fast", [False, True])
def test_tuned_weights_serve_as_another_encoder_in_which_answers_lie_apart(weights, tmp_path, monkeypatch, fast):
    monkeypatch.setattr(tuning, "bfloat16_is_fast", lambda _: fast)
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    save_file(weights, before)
    save_file(tuned(weights, lessons(labels()), examples=64), after)
    texts = [pattern.format("library") for patterns in SAID.values() for pattern in patterns]
    apart = {}
    for file in (before, after):
        encoder = Int8Encoder(file, tokenizer())
        vectors = encoder.encode(texts)
        assert vectors.shape == (4, 384)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        alike = vectors @ vectors.T
        apart[encoder_id(encoder.identity)] = alike[0, 1] + alike[2, 3] - alike[0, 2] - alike[1, 3]
    unlearned, learned = apart.values()
    assert learned > unlearned + 0.3


def test_progress_is_told_of_each_batch_to_the_end(weights):
    told = []
    tune(
        weights,
        tokenizer(),
        lessons(labels()),
        asked=frozenset(),
        examples=25,
        progress=lambda done, of: told.append((done, of)),
    )
    assert len(told) == 4
    assert told == sorted(told)
    assert told[-1] == (25, 25)
