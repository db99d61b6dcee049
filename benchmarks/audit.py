"""Seconds to find the record of one decision by its id, among many days of decisions.

Usage: python -m benchmarks.audit [--decisions 1000000] [--days 365]

silver/decisions holds them all, one file a day, and gold/audit_trail all but those of the newest day. Each figure is a
median of five look-ups of random ids; the slowest is printed beside it. The process is warm, the start of `seamless` is
not measured.
"""

import argparse
import statistics
import tempfile
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from platform_assets.operations import model_versions, promotions
from platform_assets.silver.decisions import SCHEMA
from resources.audit_trail import DECISIONS, TRAIL, UnknownDecisionError, decision, visible
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from signals.tasks import TASKS

LAST = date(2026, 12, 1)
# Days that one commit holds.
CHUNK = 30
LOOK_UPS = 5


def decided(days: list[date], count: int, chance: np.random.Generator) -> pl.DataFrame:
    """Return decisions of some days, so many a day, with ids and scores by chance."""
    rows, labels = len(days) * count, TASKS["threat"].labels
    drawn = chance.bytes(32 * rows).hex()
    hashes = pl.Series([drawn[start : start + 64] for start in range(0, len(drawn), 64)])
    scores = pl.from_numpy(chance.random((rows, len(labels))).round(6), schema=labels)
    pairs = pl.concat_list(pl.struct(label=pl.lit(label), score=label) for label in labels)
    return pl.select(
        decision_id=hashes.str.tail(32),
        document_id=pl.lit("https://site.example/") + hashes.str.head(12),
        content_hash=hashes,
        scores=scores.select(pairs).to_series(),
        score=scores["none"],
        event_date=pl.Series(days * count).sort(),
        kind=pl.lit("page"),
        tenant_id=pl.lit("harbour"),
        task=pl.lit("threat"),
        label=pl.lit("none"),
        model_name=pl.lit("dev.threat"),
        model_version=pl.lit(1, pl.Int64),
        decided_at=pl.lit(datetime.now(UTC)),
    )


def made(lake: Lakehouse, decisions: int, days: int) -> None:
    """Write the tables."""
    chance, count = np.random.default_rng(0), decisions // days
    every = [LAST - timedelta(days=number) for number in range(days)]
    for start in range(0, days, CHUNK):
        rows = decided(every[start : start + CHUNK], count, chance)
        rows = pl.concat([pl.DataFrame(schema=SCHEMA), rows], how="diagonal_relaxed")
        lake.insert_missing(DECISIONS, rows, ["decision_id"], days=[])
        lake.insert_missing(TRAIL, rows.filter(pl.col(DAY) < LAST), ["decision_id"], days=[])
    for table in (model_versions, promotions):
        lake.replace_all(table.TABLE, pl.DataFrame(schema=table.SCHEMA))


def seconds(lake: Lakehouse, ids: list[str]) -> str:
    """Return the median and the most of the seconds that decisions take to be found, or to be unknown."""
    seen, took = visible("support", "harbour"), []
    for name in ids:
        started = time.perf_counter()
        try:
            assert decision(lake, name, seen)["decision_id"].to_list() == [name]
        except UnknownDecisionError:
            assert name == UNKNOWN
        took.append(time.perf_counter() - started)
    return f"{statistics.median(took):.2f} s, at most {max(took):.2f} s"


# Between the least and the greatest of any file's ids, so that no statistics exclude it.
UNKNOWN = "8" * 32


def main() -> None:
    """Print the seconds by the age of the decision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lakehouse(uri=folder)
        made(lake, given.decisions, given.days)
        print(f"{lake.count(DECISIONS):,} decisions of {len(lake.days(DECISIONS))} days")
        for name, age in (("newest day, not in gold yet", 0), ("middle", given.days // 2), ("oldest", given.days - 1)):
            rows = lake.scan(DECISIONS, [str(LAST - timedelta(days=age))]).select("decision_id").collect()
            print(f"{name}: {seconds(lake, rows['decision_id'].sample(LOOK_UPS, seed=0).to_list())}")
        print(f"unknown: {seconds(lake, [UNKNOWN] * LOOK_UPS)}")


if __name__ == "__main__":
    main()
