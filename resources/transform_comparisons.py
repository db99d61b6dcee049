"""The table of compared transformations: every scorer reads it, and the asset that compares writes it."""

from contextlib import suppress
from datetime import datetime

import polars as pl

from governance.gates.promotion import Verdict
from governance.transform_comparisons import Comparisons, Pair, ordered_pair
from resources.lakehouse.reading import TableMissingError
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/transform_comparisons"
SCHEMA = {
    "transform_id": pl.String,
    "other_transform_id": pl.String,
    "passed": pl.Boolean,
    "verdict": pl.String,
    "compared_at": pl.Datetime("us", "UTC"),
}
KEY = ("transform_id", "other_transform_id")


def recorded_comparisons(lakehouse: Lakehouse) -> Comparisons:
    """Return all recorded comparisons."""
    rows = _rows(lakehouse).select(*KEY, "verdict").iter_rows()
    return Comparisons({(first, second): Verdict.load(verdict) for first, second, verdict in rows})


def record(lakehouse: Lakehouse, pair: Pair, verdict: Verdict, at: datetime) -> None:
    """Record the verdict on a pair in place of an earlier one; the same verdict again changes nothing."""
    row = (*ordered_pair(*pair), verdict.passed, verdict.dump(), at)
    stored, new = _rows(lakehouse), pl.DataFrame([row], schema=SCHEMA, orient="row")
    if stored.join(new, on=[*KEY, "verdict"], how="semi").is_empty():
        others = stored.join(new, on=KEY, how="anti")
        lakehouse.replace_all(TABLE, pl.concat([others, new]).sort(KEY))


def ensure_table(lakehouse: Lakehouse) -> None:
    """Create the table without rows if it does not exist, so that it can be read."""
    lakehouse.replace_all(TABLE, _rows(lakehouse))


def _rows(lakehouse: Lakehouse) -> pl.DataFrame:
    with suppress(TableMissingError):
        return lakehouse.read(TABLE)
    return pl.DataFrame(schema=SCHEMA)
