import shutil
import signal
import subprocess
import sys

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
    assert len(told) == 1 + 4
    assert told == sorted(told)
    assert told[-1] == (25, 25)


RESUMED = """
import hashlib, os, signal, sys
from functools import partial
from pathlib import Path
import polars as pl
from safetensors.numpy import load_file
from resources.encoder import tokenizer
from resources.tuning_work import TuningWork
from signals.models import tuning

tuning.BATCH = 8
folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
rows, weights = pl.read_parquet(folder / "rows"), load_file(folder / "weights")
work = TuningWork(folder / "work", "one", 0)

def checkpoint(state):
    work.checkpoint(state)
    if int(state()["step"]) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

saved = work.load()
print(0 if saved is None else int(saved["step"]))
tune = partial(tuning.tune, weights, tokenizer(), rows, asked=frozenset(), examples=40, threads=1)
tuned = tune(saved=saved, checkpoint=checkpoint)
print(hashlib.sha256(b"".join(tuned[name].tobytes() for name in sorted(tuned))).hexdigest())
"""


def test_a_tuning_that_is_killed_goes_on_to_the_same_weights(weights, tmp_path):
    lessons(labels()).write_parquet(tmp_path / "rows")
    save_file(weights, tmp_path / "weights")

    def process(kill_at):
        return subprocess.run(
            [sys.executable, "-c", RESUMED, str(tmp_path), str(kill_at)], capture_output=True, text=True, check=False
        )

    killed = process(3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    began, resumed = process(0).stdout.split()
    shutil.rmtree(tmp_path / "work")
    anew, whole = process(0).stdout.split()
    assert (began, anew) == ("3", "0")
    assert resumed == whole


def test_what_decides_the_result_is_in_the_fingerprint():
    rows = lessons(labels())
    given = {"asked": frozenset({"toy"}), "threads": 1, "device": "cpu"}
    files = (packaged_weights(), tokenizer())
    same = [tuning.fingerprint(*files, rows, **given) for _ in range(2)]
    others = [
        tuning.fingerprint(*files, rows.head(9), **given),
        tuning.fingerprint(*files[::-1], rows, **given),
        tuning.fingerprint(*files, rows, **given | {"asked": frozenset()}),
        tuning.fingerprint(*files, rows, **given | {"threads": 2}),
    ]
    assert len({*same}) == 1
    assert len({*same, *others}) == 5


@pytest.mark.parametrize(("seconds_a_batch", "expected"), [(60, 8), (6, 2 * 8), (1, 52 * 8), (0.001, 96_000)])
def test_a_budget_sets_the_examples_by_the_rate_of_the_first(monkeypatch, seconds_a_batch, expected):
    """A batch has 8 examples; measuring takes 8 batches of the minute."""
    clock = iter([0, 0, *(seconds_a_batch * n for n in range(9))])

    def trial(*, examples, progress):
        for done in range(0, examples + 1, 8):
            progress(done, examples)

    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(clock))
    assert tuning.examples_within(1, trial) == expected
