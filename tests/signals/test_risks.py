from datetime import date

import polars as pl
import pytest

from signals.risks import LEVELS, RISKY, SAFE, UNKNOWN, risk_policy, risks_of
from signals.tasks import TASKS

DAY = date(2026, 11, 9)
SCHEMA = {
    "tenant_id": pl.String,
    "document_id": pl.String,
    "content_hash": pl.String,
    "event_date": pl.Date,
    "task": pl.String,
    "label": pl.String,
    "scores": pl.List(pl.Struct({"label": pl.String, "score": pl.Float64})),
    "evidence": pl.List(pl.Struct({"label": pl.String, "share": pl.Float64})),
}


def risks(label, shares=(), topic="483", **scores):
    listed = [{"label": name, "score": score} for name, score in scores.items()]
    evidence = [{"label": name, "share": share} for name, share in shares]
    rows = [
        ("t", "d", "c", DAY, "threat", label, listed, evidence),
        ("t", "d", "c", DAY, "iab_category", topic, [], []),
    ]
    found = risks_of(pl.DataFrame(rows, SCHEMA, orient="row"), risk_policy())
    return [(one["category"], one["level"], one["score"]) for one in found["risks"].explode().drop_nulls()]


def test_a_document_has_each_risk_that_is_likely_with_its_own_level():
    found = risks("terrorism", none=0.1, terrorism=0.9, death_injury=0.7, crime=0.2)
    assert found == [("terrorism", "floor", 0.9), ("death_injury", "medium", 0.7)]


def test_nothing_is_no_risk_and_no_answer_neither():
    assert risks("none", none=0.6, crime=0.4) == []
    assert risks(None) == []


def test_the_answer_is_a_risk_however_unlikely():
    assert risks("drugs", none=0.2, drugs=0.25) == [("drugs", "medium", 0.25)]


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        ({}, "floor"),
        ({"terrorism": 0.55}, "high"),
        ({"shares": [("terrorism", 0.05)]}, "high"),
        ({"shares": [("terrorism", 0.5)]}, "floor"),
        ({"shares": [("terrorism", None)]}, "floor"),
        ({"topic": "132"}, "high"),
        ({"topic": None}, "floor"),
        ({"topic": "132", "terrorism": 0.55, "shares": [("terrorism", 0.05)]}, "high"),
    ],
)
def test_one_reason_or_several_make_a_level_one_milder(reason, level):
    assert risks("terrorism", **{"terrorism": 0.9, "none": 0.1} | reason)[0][1] == level


def test_some_categories_are_never_milder():
    for category in risk_policy().always:
        assert risks(category, topic="132", **{category: 0.5})[0][1] == TASKS["threat"].risk[category]


def test_the_policy_names_categories_and_topics_that_there_are():
    assert set(risk_policy().always) <= set(TASKS["threat"].labels)
    assert set(risk_policy().informing_topics) <= set(TASKS["iab_category"].labels)
    assert {*SAFE, *RISKY, UNKNOWN} == set(LEVELS)
