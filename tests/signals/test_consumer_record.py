from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.lakehouse.days import DAY
from signals.classify import ASKED_ABOUT
from signals.consumer_record import EVIDENCE, signals_of, worst_picture
from signals.decisions import decided, newest_answers, pivoted
from signals.risks import LEVELS, SAFE, UNKNOWN, with_risk
from signals.tasks import TASKS, tasks_for
from signals.traffic import Traffic

GIVEN = st.sampled_from([None, "", "unheard of", *LEVELS])


def judged(text, pictures):
    rows = pl.DataFrame(
        {"threat_risk": [text], "image_threat_risk": [pictures]},
        schema={"threat_risk": pl.String, "image_threat_risk": pl.String},
    )
    return with_risk(rows).select("risk", "brand_safe").row(0)


@pytest.mark.parametrize(
    ("text", "pictures", "expected"),
    [
        ("low", None, ("low", True)),
        ("low", "low", ("low", True)),
        ("low", "medium", ("medium", True)),
        ("medium", "low", ("medium", True)),
        ("high", "low", ("high", False)),
        ("low", "floor", ("floor", False)),
        (None, None, ("unknown", False)),
        (None, "low", ("unknown", False)),
        (None, "floor", ("floor", False)),
        ("low", "unknown", ("unknown", False)),
        ("high", "unknown", ("unknown", False)),
        ("floor", "unknown", ("floor", False)),
        ("unheard of", "low", ("unknown", False)),
    ],
)
def test_the_risk_of_a_page_is_the_worst_and_what_is_unknown_is_not_safe(text, pictures, expected):
    assert judged(text, pictures) == expected


@given(GIVEN, GIVEN)
def test_a_page_is_safe_only_where_all_of_it_is_known_to_be(text, pictures):
    risk, safe = judged(text, pictures)
    assert safe == (text in SAFE and pictures in (*SAFE, None))
    assert risk in LEVELS
    assert (risk == UNKNOWN) <= (not safe)


SCHEMA = {
    "tenant_id": pl.String,
    "document_id": pl.String,
    "content_hash": pl.String,
    "kind": pl.String,
    "task": pl.String,
    "label": pl.String,
    "score": pl.Float64,
    "model_version": pl.Int64,
    "decision_id": pl.String,
    "traffic_arm": pl.String,
    DAY: pl.Date,
}
NOON, NEXT = datetime(2026, 11, 9, 12, tzinfo=UTC), datetime(2026, 11, 10, 12, tzinfo=UTC)
IMAGES = {
    "tenant_id": pl.String,
    "document_id": pl.String,
    "content_hash": pl.String,
    "page_url": pl.String,
    "fetched_at": pl.Datetime("us", "UTC"),
    DAY: pl.Date,
}


def decisions(*rows, kind="page", arm="champion", tenant="acme", at=NOON):
    """Return decisions of (document, content, task, label, score, version), numbered."""
    found = [
        (tenant, d, c, kind, t, label, score, v, f"{i:03}", arm, at.date())
        for i, (d, c, t, label, score, v) in enumerate(rows)
    ]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def answers(found):
    return sorted(found.select("document_id", "task", "model_version").rows())


def test_the_champion_answers_and_else_the_newest_version():
    stored = decisions(
        ("d1", "c", "threat", "none", 0.9, 1),
        ("d1", "c", "threat", "arms", 0.8, 2),
        ("d1", "c", "threat", "hate", 0.7, 3),
        ("d1", "c", "sentiment", "neutral", 0.9, 4),
        ("d1", "c", "sentiment", "positive", 0.8, 11),
        ("d2", "c", "threat", "none", 0.9, 1),
        ("d2", "c", "threat", "crime", 0.9, 3),
    )
    found = newest_answers(stored, {"threat": Traffic(2), "irony": Traffic(1)})
    assert answers(found) == [("d1", "sentiment", 11), ("d1", "threat", 2), ("d2", "threat", 3)]
    assert found.columns == stored.columns
    assert answers(newest_answers(stored, {})) == [("d1", "sentiment", 11), ("d1", "threat", 3), ("d2", "threat", 3)]
    assert newest_answers(stored.clear(), {"threat": Traffic(2)}).is_empty()


def test_a_challenger_answers_what_it_is_assigned_and_a_shadow_nothing():
    early, late = ("0" * 64, "f" * 64)  # by their hashes, the first is of any share, the last of none
    stored = pl.concat(
        [
            decisions(("d1", early, "threat", "arms", 0.9, 2), arm="shadow"),
            decisions(("d1", early, "threat", "none", 0.9, 3), arm="challenger"),
            decisions(("d2", late, "threat", "arms", 0.9, 2)),
            decisions(("d2", late, "threat", "none", 0.9, 3), arm="shadow"),
            decisions(("d3", late, "threat", "arms", 0.9, 1)),
            decisions(("d3", late, "threat", "none", 0.9, 3), arm="shadow"),
            decisions(("d4", late, "threat", "none", 0.9, 3), arm="shadow"),
        ]
    )
    found = newest_answers(stored, {"threat": Traffic(2, challenger=3, share=0.5)})
    assert answers(found) == [("d1", "threat", 3), ("d2", "threat", 2), ("d3", "threat", 1)]
    # When the trial has ended, the champion's own answer counts again; when the challenger is promoted, its answers do.
    assert answers(newest_answers(stored, {"threat": Traffic(2)}))[0] == ("d1", "threat", 2)
    promoted = [("d1", "threat", 3), ("d2", "threat", 3), ("d3", "threat", 3), ("d4", "threat", 3)]
    assert answers(newest_answers(stored, {"threat": Traffic(3)})) == promoted


def test_each_content_of_a_document_has_its_own_answer():
    stored = decisions(("d", "old", "threat", "none", 0.9, 1), ("d", "new", "threat", "arms", 0.9, 1))
    assert newest_answers(stored, {"threat": Traffic(1)}).height == 2


def test_an_unchanged_document_has_its_own_answer_each_day():
    row = ("d", "c", "threat")
    stored = pl.concat([decisions((*row, "none", 0.9, 1)), decisions((*row, "arms", 0.9, 2), at=NEXT)])
    found = newest_answers(stored, {"threat": Traffic(1)}).sort(DAY)
    assert found.select(DAY, "label").rows() == [(NOON.date(), "none"), (NEXT.date(), "arms")]
    told = pivoted(found, "page")
    assert told.select(DAY, "threat").rows() == [(NOON.date(), "none"), (NEXT.date(), "arms")]


def test_documents_about_which_nothing_is_answered_are_still_to_be_decided():
    documents = decisions(("d", "c", "", "", 0, 1), ("e", "c", "", "", 0, 1)).select(ASKED_ABOUT)
    answer = decisions(("d", "c", "threat", "none", 0.9, 1))
    asked = {"threat": Traffic(1)}
    assert decided(documents, answer, asked, "page")["document_id"].to_list() == ["d"]
    assert decided(documents, answer.with_columns(pl.lit(NEXT.date()).alias(DAY)), asked, "page").is_empty()
    for nothing_is_asked in ({}, {"irony": Traffic(1)}, {"threat": Traffic(None)}):
        assert decided(documents, answer, nothing_is_asked, "page").equals(documents)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["threat", "hate"]), st.integers(1, 4)), max_size=12))
def test_the_answer_does_not_depend_on_the_order_of_decisions(rows):
    stored = decisions(*((d, "c", task, "none", 0.5, v) for d, task, v in rows)).sample(
        fraction=1, shuffle=True, seed=1
    )
    found = newest_answers(stored, {"threat": Traffic(2)})
    assert answers(found) == answers(newest_answers(stored.sort("decision_id"), {"threat": Traffic(2)}))
    assert found.select("document_id", "task").is_unique().all()
    assert answers(found) == sorted(
        (d, task, 2 if (d, task, 2) in rows and task == "threat" else max(v for e, t, v in rows if (e, t) == (d, task)))
        for d, task in {(d, task) for d, task, _ in rows}
    )


def test_answers_stand_side_by_side_with_names_and_risk():
    found = pivoted(
        decisions(
            ("d1", "c1", "threat", "arms", 0.8, 1),
            ("d1", "c1", "sentiment", "neutral", 0.9, 1),
            ("d2", "c2", "threat", "none", 0.7, 1),
            ("d1", "c1", "iab_category", "1", 0.6, 1),
        ),
        "page",
    )
    assert found.select("document_id", "content_hash").rows() == [("d1", "c1"), ("d2", "c2")]
    row = found.row(0, named=True)
    assert (row["threat"], row["threat_score"], row["threat_risk"]) == ("arms", 0.8, "high")
    assert row["threat_name"] == "Arms and ammunition"
    assert (row["iab_category"], row["iab_category_name"]) == ("1", "Automotive")
    assert (row["sentiment"], row["sentiment_score"]) == ("neutral", 0.9)
    assert found.select("sentiment", "emotion", "hate_score").row(1) == (None, None, None)


def test_a_threat_of_which_the_model_is_not_sure_is_unknown_and_no_other_answer_counts_as_given():
    unsure = decisions(("d", "c", "threat", None, 0.4, 1), ("d", "c", "sentiment", None, 0.5, 1))
    listed = pl.List(pl.Struct({"label": pl.String, "score": pl.Float64}))
    scores = [{"label": "none", "score": 0.4}, {"label": "terrorism", "score": 0.35}]
    evidence = pl.List(pl.Struct({k: v for k, v in EVIDENCE.to_schema().items() if k != "task"}))
    columns = {"scores": pl.Series([scores] * 2, dtype=listed), "evidence": pl.Series([[]] * 2, dtype=evidence)}
    answered = {"model_name": pl.lit("m"), "transform_id": pl.lit("x")}
    unsure = unsure.with_columns(**columns, **answered, topics=pl.Series([[]] * 2, dtype=listed))
    signal = signals_of(unsure, "page")
    assert signal.select("threat", "threat_score", "sentiment", "sentiment_score").row(0) == (None,) * 4
    assert with_risk(signal.with_columns(image_threat_risk=pl.lit("none"))).select("risk", "brand_safe").row(0) == (
        "unknown",
        False,
    )


@pytest.mark.parametrize("kind", ["page", "message", "image"])
def test_every_task_of_a_kind_has_its_columns_though_it_has_no_answers(kind):
    columns = pivoted(decisions(), kind).columns
    expected = ["tenant_id", "document_id", "content_hash", DAY]
    for task in tasks_for(kind):
        expected += [task.name, f"{task.name}_score"]
        expected += [f"{task.name}_name"] if task.names else []
        expected += [f"{task.name}_risk"] if task.risk else []
    assert columns == expected
    assert ("irony" in columns) == (kind == "message")


def pictures(*rows, tenant="acme", at=NOON):
    return pl.DataFrame([(tenant, *row, at, at.date()) for row in rows], schema=IMAGES, orient="row")


def seen(*rows, tenant="acme", at=NOON):
    found = ((d, f"h{d}", "image_threat", label, score, 1) for d, label, score in rows)
    return decisions(*found, kind="image", tenant=tenant, at=at)


def test_a_page_is_as_safe_as_its_worst_picture():
    images = pictures(("a", "ha", "p1"), ("b", "hb", "p1"), ("c", "hc", "p1"), ("a", "ha", "p2"), ("d", "hd", None))
    found = worst_picture(
        images, seen(("a", "safe", 0.99), ("b", "adult", 0.6), ("c", "adult", 0.8), ("d", "adult", 1.0))
    )
    told = ["image_threat", "image_threat_score", "image_threat_risk", "images"]
    assert found.columns == ["tenant_id", "url", "fetched_at", *told]
    assert sorted(found.rows()) == [
        ("acme", "p1", NOON, "adult", 0.8, "floor", 3),
        ("acme", "p2", NOON, "safe", 0.99, "none", 1),
    ]


def test_each_fetch_of_a_page_has_the_pictures_that_came_with_it():
    earlier = NOON - timedelta(hours=2)
    images = [pictures(("a", "ha", "p")), pictures(("b", "hb", "p"), at=earlier), pictures(("a", "ha", "p"), at=NEXT)]
    looked = [seen(("a", "safe", 0.9), ("b", "adult", 0.9)), seen(("a", "adult", 0.7), at=NEXT)]
    found = worst_picture(pl.concat(images), pl.concat(looked)).sort("fetched_at")
    assert found.select("fetched_at", "image_threat", "images").rows() == [
        (earlier, "adult", 1),
        (NOON, "safe", 1),
        (NEXT, "adult", 1),
    ]


def test_of_safe_pictures_the_worst_is_the_least_safe():
    found = worst_picture(pictures(("a", "ha", "p"), ("b", "hb", "p")), seen(("a", "safe", 0.99), ("b", "safe", 0.51)))
    assert found["image_threat_score"].to_list() == [0.51]


def test_a_picture_that_nobody_has_judged_outranks_all_but_the_worst():
    unjudged = ("acme", "p", None, None, "unknown", 1)
    assert worst_picture(pictures(("a", "ha", "p")), seen()).drop("fetched_at").rows() == [unjudged]
    assert worst_picture(pictures(("a", "other bytes", "p")), seen(("a", "adult", 0.9))).drop("fetched_at").rows() == [
        unjudged
    ]
    two = pictures(("a", "ha", "p"), ("b", "hb", "p"))
    assert worst_picture(two, seen(("a", "safe", 0.9))).drop("fetched_at").rows() == [
        ("acme", "p", None, None, "unknown", 2)
    ]
    assert worst_picture(two, seen(("a", "adult", 0.9))).drop("fetched_at").rows() == [
        ("acme", "p", "adult", 0.9, "floor", 2)
    ]
    assert (
        worst_picture(two, seen(("a", "unheard of", 0.9), ("b", "safe", 0.9)))["image_threat_risk"].item() == "unknown"
    )


def test_no_picture_of_a_page_tells_nothing():
    assert worst_picture(pictures(), seen()).is_empty()
    assert worst_picture(pictures(("a", "ha", None)), seen()).is_empty()


def test_each_organisation_has_its_own_answers_and_pictures_of_one_page():
    row = ("d", "c", "threat")
    both = pl.concat([decisions((*row, "none", 0.9, 1)), decisions((*row, "arms", 0.8, 2), tenant="other")])
    told = pivoted(newest_answers(both, {}), "page").select("tenant_id", "threat")
    assert told.sort("tenant_id").rows() == [("acme", "none"), ("other", "arms")]
    images = pl.concat([pictures(("a", "ha", "p")), pictures(("b", "hb", "p"), tenant="other")])
    looked = pl.concat([seen(("a", "safe", 0.9)), seen(("b", "adult", 0.9), tenant="other")])
    found = worst_picture(images, looked).select("tenant_id", "image_threat", "images")
    assert sorted(found.rows()) == [("acme", "safe", 1), ("other", "adult", 1)]


def test_the_risks_of_every_task_are_ranked():
    assert {risk for task in TASKS.values() for risk in task.risk.values()} <= {*LEVELS} - {UNKNOWN}
