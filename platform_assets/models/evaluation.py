"""The contest of a challenger with the champion: both answer the same held-out rows, and the gate compares them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from governance.gates.promotion import Verdict, gate
from governance.promotion_log import rolled_back
from governance.transform_comparisons import Comparisons
from platform_assets.models.labelled import labelled_pictures, vectors_of
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from resources.registry.errors import ChampionMovedError
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion, promotion_log
from resources.transform_comparisons import recorded_comparisons
from signals.models.metrics import Indices
from signals.models.ngrams import ngrams
from signals.models.training import examples
from signals.tasks import Task

BY = "gate"
LENGTHS = ("short", "middle", "long")


@dataclass(frozen=True)
class HeldOut:
    """The rows that judge the models of a task.

    Attributes:
        answers: (rows,) index of the right label.
        seen: what a model is given, a row each: vectors and n-grams, or pictures.
        slices: (rows, ways to part them): kind, language, site, tenant and length of the text; null if not known.
    """

    answers: Indices
    seen: tuple[Any, ...]
    slices: pl.DataFrame


def contested(
    task: Task, challenger: ModelVersion, registry: Registry, lakehouse: Lakehouse, encoder: Encoder
) -> Verdict:
    """Judge a challenger, keep the verdict, and promote it if it passes.

    If another has become champion in between, it is compared with that one.
    """
    rows = held_out(task, lakehouse, encoder)
    while True:
        verdict = evaluate(task, challenger, registry, rows, encoder.transform_id, recorded_comparisons(lakehouse))
        registry.judge(challenger, verdict)
        if not verdict.passed:
            return verdict
        with suppress(ChampionMovedError):
            promotion.promote(registry, task.name, challenger.version, by=BY, why=verdict.why, automatic=True)
            return verdict


def evaluate(
    task: Task, challenger: ModelVersion, registry: Registry, rows: HeldOut, running: str, comparisons: Comparisons
) -> Verdict:
    """Return the gate's verdict on a challenger's files as they are registered.

    A champion of another transformation cannot serve, and is not compared with.
    """
    versions = registry.versions(task.name)
    champion = next((one for one in versions if one.champion), None)
    against = None if champion is None else champion.version
    why = undoes(challenger, versions)
    if why:
        return Verdict(passed=False, why=why, against=against)
    scores = [
        registry.load(one, running, comparisons).scorer.scores(*rows.seen)
        for one in (challenger, champion)
        if one is not None and (one is challenger or comparisons.may_score(task.name, one.transform_id, running))
    ]
    return gate(
        task,
        rows.answers,
        scores[0],
        scores[1] if len(scores) > 1 else None,
        reported=challenger.metrics,
        slices=rows.slices,
        against=against,
    )


def undoes(challenger: ModelVersion, versions: Sequence[ModelVersion]) -> str | None:
    """Return why a version is refused that has the files of one which a person rolled back; None if it has not."""
    refused = rolled_back(promotion_log(versions))
    for one in versions:
        if one.version in refused and one.digest == challenger.digest:
            return f"has the files of version {one.version}, which was rolled back: only a person may promote it"
    return None


def serves(registry: Registry, task: Task, running: str, comparisons: Comparisons) -> bool:
    """Say whether the champion, if there is one, can serve under the running transformation."""
    champions = [one for one in registry.versions(task.name) if one.champion]
    return all(comparisons.may_score(task.name, one.transform_id, running) for one in champions)


def held_out(task: Task, lakehouse: Lakehouse, encoder: Encoder) -> HeldOut:
    """Return the task's held-out rows as they are now."""
    if task.documents == ("image",):
        rows = labelled_pictures(task, lakehouse).with_columns(text=pl.lit(""))
        seen: tuple[Any, ...] = (rows["body"].to_list(),)
    else:
        rows = examples(task, lakehouse.read("silver/labels")).filter(pl.col("split") == "val")
        seen = (vectors_of(rows, lakehouse, encoder), ngrams(rows["text"].to_list()))
    answers = np.array([task.labels.index(label) for label in rows["label"]], np.int64)
    return HeldOut(answers, seen, slices_of(task, rows, lakehouse))


def slices_of(task: Task, rows: pl.DataFrame, lakehouse: Lakehouse) -> pl.DataFrame:
    """Return the parts that held-out rows are of: kind, language, site, tenant, length; null where not known."""
    wanted = pl.col("content_hash").is_in(rows["content_hash"].implode())
    labels = lakehouse.scan("silver/labels").filter(pl.col("task") == task.name, wanted)
    found = rows.select("content_hash", length=_thirds(pl.col("text").str.len_chars()))
    parts = [labels.select("content_hash", tenant="tenant_id")]
    if lakehouse.exists("silver/pages"):
        pages = lakehouse.scan("silver/pages").filter(wanted)
        parts.append(pages.select("content_hash", "language", "site", kind=pl.lit("page")))
    for part in parts:
        known = part.collect().unique("content_hash", keep="first", maintain_order=True)
        found = found.join(known, on="content_hash", how="left", maintain_order="left")
    return found.drop("content_hash")


def _thirds(length: pl.Expr) -> pl.Expr:
    third = (length.rank("min") - 1) * len(LENGTHS) // pl.len()
    return third.cast(pl.Int64).replace_strict(dict(enumerate(LENGTHS)), default=LENGTHS[-1], return_dtype=pl.String)
