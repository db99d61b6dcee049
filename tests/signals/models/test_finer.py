from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from signals.models.encoder import DIMENSIONS
from signals.models.finer import FinerLabels
from signals.models.finer_training import MAX_ROWS, finer_examples, finer_metrics, fit_finer
from signals.models.heads import LinearHead, load_head

NODES = {
    "423": ("422", "Pets > Birds"),
    "424": ("422", "Pets > Birds > Parrots"),
    "425": ("422", "Pets > Cats"),
    "500": ("483", "Sports > Golf"),
}


def axis(place):
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[place] = 1
    return vector


def labels(*rows):
    """Return silver/labels of (finer label, text, split)."""
    found = [
        {
            "label_id": f"{place:04}", "task": "iab_category", "label": NODES[node][0], "finer_label": node,
            "finer_path": NODES[node][1], "text": text, "content_hash": f"h{place:04}", "split": split,
            "labelled_at": datetime(2026, 11, 9, tzinfo=UTC),
        }
        for place, (node, text, split) in enumerate(rows)
    ]  # fmt: skip
    return pl.DataFrame(found)


@pytest.fixture
def finer():
    rows = labels(*((node, f"x: {path}", "train") for node, (_, path) in NODES.items()))
    return fit_finer(finer_examples("iab_category", rows), np.stack([axis(place) for place in range(4)]))


def test_the_likeliest_label_below_one_is_the_nearest_and_a_label_has_those_below_it(finer):
    likeliest = finer.below("422", axis(1))
    assert [finer.labels[place] for place, _ in likeliest[:2]] == ["423", "424"]
    assert [share for _, share in likeliest[:2]] == [pytest.approx(1), pytest.approx(1)]
    assert {finer.labels[place] for place, _ in likeliest} == {"423", "424", "425"}
    assert finer.labels[finer.below("422", axis(2))[0][0]] == "425"
    assert finer.below("1", axis(2)) == []


def test_texts_teach_more_than_a_name_the_more_there_are():
    rows = labels(("425", "x: Pets > Cats", "train"), *(("425", f"my cat {n}", "train") for n in range(8)))
    examples = finer_examples("iab_category", rows)
    is_name = examples["text"].str.starts_with("x:").to_numpy()
    taught = fit_finer(examples, np.where(is_name[:, None], axis(0), axis(1)))
    assert taught.vectors[0] @ axis(1) > taught.vectors[0] @ axis(0) > 0


def test_what_is_held_out_teaches_nothing_and_measures(finer):
    held_out = finer_examples("iab_category", labels(("425", "a cat", "val"), ("424", "a parrot", "val")))
    assert fit_finer(held_out, np.stack([axis(2), axis(1)])) is None
    measured = finer_metrics(finer, held_out, np.stack([axis(2), axis(2)]))
    calibration = pytest.approx(0.5, abs=1e-6)
    assert measured == {"finer_accuracy": 0.5, "finer_accuracy_3": 1.0, "finer_calibration_error": calibration}
    assert finer_metrics(finer, held_out.clear(), np.zeros((0, DIMENSIONS), np.float32)) == {}


def test_so_many_of_the_newest_rows_of_a_label_count_and_each_text_once():
    rows = labels(*(("425", f"cat {n}", "train") for n in range(MAX_ROWS + 50)))
    assert finer_examples("iab_category", pl.concat([rows, rows])).height == MAX_ROWS
    assert finer_examples("iab_category", rows.with_columns(finer_label=pl.lit(None, pl.String))).is_empty()


def test_a_saved_head_keeps_its_finer_labels(finer, tmp_path):
    weights = np.zeros((2, 2), np.float32)
    LinearHead(("422", "483"), weights, weights, weights[0], finer=finer).save(tmp_path, task="t")
    again = load_head(tmp_path).finer
    assert isinstance(again, FinerLabels)
    assert (again.labels, again.parents, again.paths) == (finer.labels, finer.parents, finer.paths)
    assert np.array_equal(again.vectors, finer.vectors)
