"""What consumers read of a page: so far its risk, of the answers about its text and its pictures."""

import polars as pl

UNKNOWN = "unknown"
# Levels of risk, least first. What nobody has judged may be anything, so only the worst level outranks it.
LEVELS = ("low", "medium", "high", UNKNOWN, "floor")
SAFE = ("low", "medium")


def rank(level: pl.Expr) -> pl.Expr:
    """Return the place of a level among ``LEVELS``; what is no level is unknown."""
    places = {name: place for place, name in enumerate(LEVELS)}
    return level.replace_strict(places, default=places[UNKNOWN], return_dtype=pl.Int64)


def with_risk(signals: pl.DataFrame) -> pl.DataFrame:
    """Return pages with ``risk``, one of ``LEVELS``, and ``brand_safe``.

    Args:
        signals: with ``threat_risk``, null where no model has judged the text, and ``image_threat_risk``, null where
            there are no pictures.
    """
    pictures = pl.when(pl.col("image_threat_risk").is_not_null()).then(rank(pl.col("image_threat_risk")))
    worst = pl.max_horizontal(rank(pl.col("threat_risk")), pictures)
    named = worst.replace_strict(dict(enumerate(LEVELS)), return_dtype=pl.String)
    return signals.with_columns(risk=named).with_columns(brand_safe=pl.col("risk").is_in(SAFE))
