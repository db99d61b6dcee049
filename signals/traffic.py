"""Which version of a task's model answers a document: the champion, or a challenger that is given a share.

The champion is asked about every document. A challenger is asked about those of its share, which it then answers; in
shadow it is asked about every document and answers none. So both versions have a decision about whatever the
challenger was asked, and each decision says what became of it: its arm is ``champion`` or ``challenger`` where its
version was the one to answer, else ``shadow``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from signals.splits import in_share


@dataclass(frozen=True)
class Traffic:
    """The versions of a task's model that are asked.

    Attributes:
        champion: version of the champion.
        challenger: version of the challenger; None if there is none.
        share: of the documents, that the challenger answers, from 0 to 1; at 0 it is a shadow.
    """

    champion: int
    challenger: int | None = None
    share: float = 0.0


def assigned(traffic: Mapping[str, Traffic]) -> pl.Expr:
    """Return the version that answers, by ``task`` and ``content_hash``; null where the task has no champion."""

    def known(value: Mapping[str, float | None], kind: type[pl.Int64 | pl.Float64]) -> pl.Expr:
        return pl.col("task").replace_strict(value, default=None, return_dtype=kind)

    champion = known({task: of.champion for task, of in traffic.items()}, pl.Int64)
    challenger = known({task: of.challenger for task, of in traffic.items()}, pl.Int64)
    share = known({task: of.share for task, of in traffic.items()}, pl.Float64)
    return pl.when(in_share(share) & challenger.is_not_null()).then(challenger).otherwise(champion)


def arms(traffic: Traffic, version: int, contents: Sequence[str | None]) -> list[str]:
    """Return the arms of the decisions of a version of a task's model, by the content_hash of what they are about."""
    own = "challenger" if version == traffic.challenger else "champion"
    if traffic.challenger is None:
        challenged = [False] * len(contents)
    else:
        rows = pl.DataFrame({"content_hash": contents}, schema={"content_hash": pl.String})
        challenged = rows.select(in_share(traffic.share)).to_series().to_list()
    return [own if version == (traffic.challenger if of else traffic.champion) else "shadow" for of in challenged]
