from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.documents.text import content_hash
from signals.models.examples import examples
from signals.tasks import Task

NOW = datetime(2026, 11, 10, tzinfo=UTC)


def labels(rows):
    """Return silver/labels from (task, label, text, split, hour), numbered."""
    found = [
        {
            "label_id": f"{number:04}",
            "task": of,
            "label": label,
            "text": text,
            "content_hash": content_hash(text),
            "split": split,
            "labelled_at": NOW + timedelta(hours=hour),
        }
        for number, (of, label, text, split, hour) in enumerate(rows)
    ]
    schema = dict.fromkeys(("label_id", "task", "label", "text", "content_hash", "split"), pl.String)
    found = pl.DataFrame(found, schema={**schema, "labelled_at": pl.Datetime("us", "UTC")})
    return found.with_columns(language=pl.lit("en"))


def told(found):
    return sorted(found.select("text", "label", "split").rows())


TAUGHT_BY_OTHERS = Task(
    name="toy",
    documents=("page",),
    metric="macro_f1",
    floor=0.5,
    retrain_after=10,
    labels=("no", "yes"),
    auxiliary={"auxiliary": {"nay": "no", "aye": "yes"}, "also": {"never": "no", "always": "yes"}},
)


OWN = st.tuples(st.just("toy"), st.sampled_from(["no", "yes", "maybe"]))


LENT = st.tuples(st.sampled_from(["auxiliary", "also"]), st.sampled_from(["nay", "aye", "never", "always", "other"]))


OTHER = st.just(("other", "no"))


ROWS = st.lists(
    st.tuples(
        OWN | LENT | OTHER, st.sampled_from("abcdefgh"), st.sampled_from(["train", "val"]), st.integers(0, 3)
    ).map(lambda row: (*row[0], *row[1:])),
    max_size=25,
)


def test_the_latest_answer_to_a_text_wins_whatever_its_split():
    stored = labels(
        [
            ("toy", "yes", "a", "train", 1),
            ("toy", "no", "a", "train", 2),
            ("toy", "yes", "b", "val", 2),
            ("toy", "no", "b", "train", 1),
            ("toy", "no", "c", "train", 5),
            ("toy", "yes", "c", "train", 5),
            ("other", "yes", "d", "train", 1),
            ("toy", "maybe", "e", "train", 1),
        ]
    )
    expected = [("a", "no", "train"), ("b", "yes", "val"), ("c", "yes", "train")]
    assert told(examples(TAUGHT_BY_OTHERS, stored)) == expected
    assert examples(TAUGHT_BY_OTHERS, stored).columns == ["content_hash", "text", "language", "label", "split"]


def test_auxiliary_rows_train_under_our_labels_and_are_few():
    own = [("toy", "no", f"own {i}", "train", 0) for i in range(4)]
    lent = [("auxiliary", "aye", f"lent {i}", "train", 0) for i in range(20)]
    found = examples(TAUGHT_BY_OTHERS, labels(own + lent))
    assert found["label"].value_counts().sort("label").rows() == [("no", 4), ("yes", 2)]
    assert set(found["split"]) == {"train", "auxiliary"}
    assert examples(TAUGHT_BY_OTHERS, labels(lent)).is_empty()


def test_what_an_auxiliary_task_holds_out_or_answers_otherwise_does_not_teach():
    own = [("toy", "no", f"own {i}", "train", 0) for i in range(40)]
    lent = [("auxiliary", "aye", "held out there", "val", 0), ("auxiliary", "other", "unknown answer", "train", 0)]
    held = [("toy", "yes", "held out here", "val", 0), ("auxiliary", "nay", "held out here", "train", 0)]
    found = examples(TAUGHT_BY_OTHERS, labels(own + lent + held))
    assert found.filter(~pl.col("text").str.starts_with("own")).select("text", "label", "split").rows() == [
        ("held out here", "yes", "val")
    ]


def test_rows_are_capped_by_their_hashes(monkeypatch):
    monkeypatch.setattr("signals.models.examples.MAX_ROWS", 5)
    monkeypatch.setattr("signals.models.examples.MAX_HELD_OUT", 3)
    own = [("toy", "no", f"{split} {i}", split, 0) for i in range(9) for split in ("train", "val")]
    lent = [("auxiliary", "aye", f"lent {i}", "train", 0) for i in range(9)]
    found = examples(TAUGHT_BY_OTHERS, labels(own + lent))
    for split, most in (("train", 5), ("val", 3)):
        kept = found.filter(pl.col("split") == split)["content_hash"].to_list()
        assert kept == sorted(content_hash(f"{split} {i}") for i in range(9))[:most]
    monkeypatch.setattr("signals.models.examples.MAX_ROWS", 12)
    assert examples(TAUGHT_BY_OTHERS, labels(own + lent)).filter(pl.col("split") != "val").height == 12


def test_of_too_many_rows_half_are_the_newest(monkeypatch):
    monkeypatch.setattr("signals.models.examples.MAX_ROWS", 8)
    monkeypatch.setattr("signals.models.examples.MAX_HELD_OUT", 4)
    stored = [("toy", "no", f"{split} {i}", split, i) for i in range(20) for split in ("train", "val")]
    found = examples(TAUGHT_BY_OTHERS, labels(stored))
    for split, most in (("train", 8), ("val", 4)):
        texts = [f"{split} {i}" for i in range(20)]
        newest, others = texts[-most // 2 :], sorted(texts[: -most // 2], key=content_hash)
        assert set(found.filter(pl.col("split") == split)["text"]) == {*newest, *others[: most // 2]}


@settings(max_examples=60)
@given(ROWS, st.randoms(use_true_random=False))
@example(
    [("toy", "no", c, "train", 0) for c in "abcd"]
    + [("auxiliary", "aye", "x", "train", 0), ("auxiliary", "nay", "x", "train", 1)],
    None,
)
def test_shuffled_labels_give_the_same_rows_in_the_same_order(rows, random):
    stored = labels(rows)
    order = list(range(len(rows)))[::-1]
    if random:
        random.shuffle(order)
    assert examples(TAUGHT_BY_OTHERS, stored[order]).equals(examples(TAUGHT_BY_OTHERS, stored))


@settings(max_examples=60)
@given(ROWS)
def test_each_text_occurs_once_so_no_held_out_text_trains(rows):
    stored = labels(rows)
    found = examples(TAUGHT_BY_OTHERS, stored)
    assert found["content_hash"].is_unique().all()
    assert set(found["label"]) <= {"no", "yes"}
    asked = stored.filter(task="toy").filter(pl.col("label").is_in(["no", "yes"]))
    assert set(asked["text"]) <= set(found["text"])
    held_out = found.filter(pl.col("split") == "val")
    assert set(held_out["text"]) <= set(asked.filter(split="val")["text"])
