"""One row is one erasure: whom it was about, as a salted hash; its finished steps; and how many rows of each table.

The row is written before each step, so that an erasure that was killed resumes where it was. ``sources`` names where
the rows had come from: these still hold the subject unless they are ours.
"""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from governance import catalog
from governance.erasure import ANY, Subject, hashed
from platform_assets.conventions import table_spec
from platform_assets.operations.suppressions import salt_of
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/erasures"
SCHEMA = {
    "erasure_id": pl.String,
    "steps": pl.List(pl.String),
    "counts": pl.String,
    "models": pl.List(pl.String),
    "sources": pl.List(pl.String),
    "started_at": pl.Datetime("us", "UTC"),
    "finished_at": pl.Datetime("us", "UTC"),
}

LISTS = ("steps", "models", "sources")


@dataclass(frozen=True)
class Erasure:
    """The state of an erasure.

    Attributes:
        erasure_id: salted hash of tenant and subject.
        started_at: when it was asked for (UTC).
        finished_at: when its last step ended (UTC).
        steps: finished steps.
        counts: number of removed rows by table.
        models: versions whose training rows held the subject.
        sources: sources of the removed rows.
    """

    erasure_id: str
    started_at: datetime
    finished_at: datetime | None = None
    steps: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dg.asset(**table_spec(TABLE, __doc__, daily=False))
def erasures(lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Count the erasures, and those that are not finished."""
    _create(lakehouse)
    rows = lakehouse.read(TABLE)
    unfinished = rows["finished_at"].null_count()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows.height,
            "delta_version": lakehouse.version(TABLE),
            "unfinished": unfinished,
        }
    )


def erasure_of(lakehouse: Lakehouse, subject: Subject) -> Erasure:
    """Return the erasure of a subject, as far as it is; a new one if there is none."""
    erasure_id = hashed(salt_of(lakehouse), "subject", subject.tenant or ANY, subject.id)
    _create(lakehouse)
    stored = lakehouse.read(TABLE).filter(pl.col("erasure_id") == erasure_id)
    if stored.is_empty():
        return Erasure(erasure_id, datetime.now(UTC))
    row = stored.row(0, named=True)
    row |= {"counts": json.loads(row["counts"])} | {name: tuple(row[name]) for name in LISTS}
    return Erasure(**row)


def save(lakehouse: Lakehouse, erasure: Erasure, **changes: object) -> Erasure:
    """Store an erasure with some changes, and return it."""
    erasure = replace(erasure, **changes)
    row = {name: getattr(erasure, name) for name in SCHEMA} | {"counts": json.dumps(erasure.counts)}
    new = pl.DataFrame([row | {name: list(row[name]) for name in LISTS}], schema=SCHEMA)

    def replaced(rows: pl.DataFrame) -> pl.DataFrame:
        others = rows.filter(pl.col("erasure_id") != erasure.erasure_id)
        return pl.concat([others, new]).sort("started_at", "erasure_id")

    lakehouse.rewrite(TABLE, replaced)
    return erasure


def _create(lakehouse: Lakehouse) -> None:
    lakehouse.insert_missing(TABLE, pl.DataFrame(schema=SCHEMA), catalog.table(TABLE).key)
