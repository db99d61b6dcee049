"""How grave what stands on a page is: the levels of risk, and the policy that gives them."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict

from signals.classify import ASKED_ABOUT
from signals.decisions import evidence_rows, label_scores, listed
from signals.tasks import TASKS

UNKNOWN = "unknown"
# Levels of risk, least first. What nobody has judged may be anything, so only the worst level outranks it.
LEVELS = ("none", "low", "medium", "high", UNKNOWN, "floor")
NO_RISK = "none"
# What a level becomes where it is made milder.
SOFTENED = ("floor", "high", "medium", "low")
SAFE, RISKY = ("none", "low", "medium"), ("high", "floor")
RISK = pl.Struct({"category": pl.String, "level": pl.String, "score": pl.Float64})


class RiskPolicy(BaseModel):
    """How grave a risk is: see ``risk_policy.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_score: float
    weak_below: float
    mentioned_below: float
    informing_topics: tuple[str, ...]
    always: tuple[str, ...]


@cache
def risk_policy() -> RiskPolicy:
    """Return the policy that is shipped."""
    text = Path(__file__).with_name("risk_policy.yaml").read_text(encoding="utf-8")
    return RiskPolicy.model_validate(yaml.safe_load(text))


def rank(level: pl.Expr) -> pl.Expr:
    """Return the place of a level among ``LEVELS``; what is no level is unknown."""
    places = {name: place for place, name in enumerate(LEVELS)}
    return level.replace_strict(places, default=places[UNKNOWN], return_dtype=pl.Int64)


def with_risk(signals: pl.DataFrame) -> pl.DataFrame:
    """Return pages with ``risk``, one of ``LEVELS``, and whether that is ``brand_safe`` or ``risky``.

    Args:
        signals: with ``threat_risk``, null where no model has judged the text, and ``image_threat_risk``, null where
            there are no pictures.
    """
    pictures = pl.when(pl.col("image_threat_risk").is_not_null()).then(rank(pl.col("image_threat_risk")))
    worst = pl.max_horizontal(rank(pl.col("threat_risk")), pictures)
    named = worst.replace_strict(dict(enumerate(LEVELS)), return_dtype=pl.String)
    return signals.with_columns(risk=named).with_columns(
        brand_safe=pl.col("risk").is_in(SAFE), risky=pl.col("risk").is_in(RISKY)
    )


def risks_of(answers: pl.DataFrame, policy: RiskPolicy) -> pl.DataFrame:
    """Return the risks of documents, surest first, each with its level.

    A document that is answered by a category has that risk, and others that are likely enough.

    Args:
        answers: one decision a document and task.
        policy: what makes a level milder.
    """
    task = TASKS["threat"]
    topic = answers.filter(pl.col("task") == "iab_category").select(*ASKED_ABOUT, topic="label")
    scores = label_scores(answers, task.name).filter(pl.col("answer") != task.nothing)
    likely = (pl.col("score") >= policy.from_score) | (pl.col("label") == pl.col("answer"))
    scores = scores.filter(likely, pl.col("label") != task.nothing)
    share = evidence_rows(answers.filter(pl.col("task") == task.name)).select(*ASKED_ABOUT, "label", "share")
    scores = scores.join(topic, on=ASKED_ABOUT, how="left", maintain_order="left")
    scores = scores.join(share, on=[*ASKED_ABOUT, "label"], how="left", maintain_order="left")
    milder = dict(pairwise(SOFTENED))
    level = pl.col("label").replace_strict(task.risk, default=UNKNOWN, return_dtype=pl.String)
    softened = pl.any_horizontal(
        pl.col("score") < policy.weak_below,
        pl.col("share").fill_null(1.0) < policy.mentioned_below,
        pl.col("topic").is_in(policy.informing_topics).fill_null(value=False),
    ) & ~pl.col("label").is_in(policy.always)
    level = pl.when(softened).then(level.replace(milder)).otherwise(level)
    risk = pl.struct(category="label", level=level, score="score").cast(RISK)
    return listed(scores.sort("score", descending=True, maintain_order=True), risks=risk)
