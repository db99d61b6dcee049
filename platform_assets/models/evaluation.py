"""Evaluation: challenger and champion answer the same held-out rows, and the gate compares their scores."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from governance.gates.promotion import Verdict, gate
from governance.promotion_log import rolled_back
from governance.transform_comparisons import Comparisons
from platform_assets.models.labelled import labelled_images, vectors_of
from platform_assets.silver.labels import labels_in
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.registry import promotion
from resources.registry.errors import ChampionMovedError
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion, promotion_log
from resources.transform_comparisons import recorded_comparisons
from signals.models.examples import examples
from signals.models.metrics import Indices
from signals.models.ngrams import ngrams
from signals.tasks import Task

BY = "gate"
LENGTHS = ("short", "middle", "long")


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows of a task.

    Attributes:
        y_true: (rows,) index of the right label.
        features: a scorer's arguments, a row each: vectors and n-grams, or images.
        slices: (rows, slices): kind, language, site, tenant and length of the text; null if not known.
    """

    y_true: Indices
    features: tuple[Any, ...]
    slices: pl.DataFrame


def judge_and_promote(
    task: Task, challenger: ModelVersion, registry: Registry, lakehouse: Lakehouse, encoder: Encoder
) -> Verdict:
    """Judge a challenger, record the verdict, and promote it if it passes.

    If the champion changes meanwhile, the challenger is compared with the new one.
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
    """Return the gate's verdict on a challenger, scored from its registered files.

    A champion that may not score under the running transformation is not compared.
    """
    versions = registry.versions(task.name)
    champion = next((version for version in versions if version.champion), None)
    against = None if champion is None else champion.version
    why = rollback_reason(challenger, versions)
    if why:
        return Verdict(passed=False, why=why, against=against)
    if champion is not None and not comparisons.may_score(task.name, champion.transform_id, running):
        champion = None
    scores = [
        registry.load(version, running, comparisons).scorer.scores(*rows.features)
        for version in (challenger, champion)
        if version is not None
    ]
    return gate(
        task,
        rows.y_true,
        scores[0],
        scores[1] if len(scores) > 1 else None,
        reported=challenger.metrics,
        champion_reported=None if champion is None else champion.metrics,
        slices=rows.slices,
        against=against,
    )


def rollback_reason(challenger: ModelVersion, versions: Sequence[ModelVersion]) -> str | None:
    """Return why a challenger is refused that has the files of a rolled-back version; None if it has not."""
    refused = rolled_back(promotion_log(versions))
    for version in versions:
        if version.version in refused and version.digest == challenger.digest:
            return f"has the files of version {version.version}, which was rolled back: only a person may promote it"
    return None


def champion_can_serve(registry: Registry, task: Task, running: str, comparisons: Comparisons) -> bool:
    """Say whether the champion, if there is one, can serve under the running transformation."""
    champions = [version for version in registry.versions(task.name) if version.champion]
    return all(comparisons.may_score(task.name, champion.transform_id, running) for champion in champions)


def held_out(task: Task, lakehouse: Lakehouse, encoder: Encoder) -> HeldOut:
    """Return the task's current held-out rows."""
    if task.documents == ("image",):
        rows = labelled_images(task, lakehouse).with_columns(text=pl.lit(""))
        features: tuple[Any, ...] = (rows["body"].to_list(),)
    else:
        rows = examples(task, labels_in(lakehouse, encoder.languages)).filter(pl.col("split") == "val")
        features = (vectors_of(rows, lakehouse, encoder), ngrams(rows["text"].to_list()))
    y_true = np.array([task.labels.index(label) for label in rows["label"]], np.int64)
    return HeldOut(y_true, features, slices_of(task, rows, lakehouse))


def slices_of(task: Task, rows: pl.DataFrame, lakehouse: Lakehouse) -> pl.DataFrame:
    """Return the slices of held-out rows: kind, language, site, tenant, length; null where not known."""
    in_rows = pl.col("content_hash").is_in(rows["content_hash"].implode())
    labels = lakehouse.scan("silver/labels").filter(pl.col("task") == task.name, in_rows)
    slices = rows.select("content_hash", length=_thirds(pl.col("text").str.len_chars()))
    parts = [labels.select("content_hash", tenant="tenant_id")]
    if lakehouse.exists("silver/pages"):
        pages = lakehouse.scan("silver/pages").filter(in_rows)
        parts.append(pages.select("content_hash", "language", "site", kind=pl.lit("page")))
    for part in parts:
        values = part.collect().unique("content_hash", keep="first", maintain_order=True)
        slices = slices.join(values, on="content_hash", how="left", maintain_order="left")
    return slices.drop("content_hash")


def _thirds(length: pl.Expr) -> pl.Expr:
    third = (length.rank("min") - 1) * len(LENGTHS) // pl.len()
    return third.cast(pl.Int64).replace_strict(dict(enumerate(LENGTHS)), default=LENGTHS[-1], return_dtype=pl.String)
