"""Parts of all texts, by the hash of their content: the same text is always in the same part, wherever it came from.

Each purpose reads digits of its own, so a part for one says nothing of a part for another: what a challenger answers is
as new to it as anything, and what calibrates a head has not taught it.
"""

import polars as pl

# First digit and number of digits of a content_hash (64 hexadecimal digits) that place a text, by purpose.
HELD_OUT, TRAFFIC, CALIBRATION = (0, 8), (8, 8), (60, 4)
HELD_OUT_SHARE, CALIBRATION_SHARE = 0.2, 0.15


def held_out() -> pl.Expr:
    """Say whether a label's text judges models instead of teaching them, where its source does not say."""
    return _place(HELD_OUT) < HELD_OUT_SHARE


def calibrates() -> pl.Expr:
    """Say whether a text is of the share that calibrates heads and teaches nothing."""
    return _place(CALIBRATION) < CALIBRATION_SHARE


def in_share(share: pl.Expr | float) -> pl.Expr:
    """Say whether a document is of a share that a challenger answers: the same always, and of any larger share too."""
    return (_place(TRAFFIC) < share).fill_null(value=False)


def _place(digits: tuple[int, int]) -> pl.Expr:
    """Return the place of a text among all, from 0 to 1, by some digits of ``content_hash``; null without one."""
    return pl.col("content_hash").str.slice(*digits).str.to_integer(base=16, strict=False) / 16 ** digits[1]
