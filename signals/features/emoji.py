"""Emoji found in texts, and how pleasant they are.

The `emoji` package's table (Unicode's recommended sequences) says what an emoji is; one Aho-Corasick pass
over the texts finds the longest entry at each place, in linear time. (The package's own tokenizer is a Python
loop over characters, quadratic in joined sequences.) The valence table is this project's own, made by hand:
a coarse judgement of common use, from -1 (unpleasant) through 0 to 1 (pleasant).
"""

from functools import cache
from pathlib import Path

import polars as pl
from emoji import EMOJI_DATA

# Asks for text: the sign before it is no emoji (UTS 51). Such signs are found as sequences, and then left out.
_TEXT_STYLE = "\ufe0e"
# In messages, UTS 51 takes a sign without any selector for an emoji (❤), but bare ©, ® and ™ are typography.
_SEQUENCES = EMOJI_DATA.keys() - set("©®™") | {sign + _TEXT_STYLE for sign in EMOJI_DATA if len(sign) == 1}
_LONGEST_FIRST = sorted(_SEQUENCES, key=len, reverse=True)

# Skin tones, the emoji variation selector and gender signs change the look, not the feeling.
_VARIATION = r"[\x{1F3FB}-\x{1F3FF}\x{FE0F}]|\x{200D}[♀♂]"


@cache
def _valence() -> pl.DataFrame:
    path = Path(__file__).with_name("emoji_valence.tsv")
    return pl.read_csv(path, separator="\t").with_columns(pl.col("emoji").str.replace_all(_VARIATION, ""))


def emoji_features(text: pl.Series) -> pl.DataFrame:
    """Find the emoji of each text.

    Args:
        text: Strings, shape (n,); null counts as empty.

    Returns:
        Shape (n, 4): `emoji` (List[String], as written, in order of appearance), `emoji_count` and
        `emoji_unique` (Int32), and `emoji_sentiment` (Float64 in [-1, 1]): the mean valence over the
        occurrences that the lexicon knows, null when there is none. A variant in skin tone or gender has
        the valence of its base.

    Raises:
        polars.exceptions.InvalidOperationError: if `text` can not be cast to strings.
    """
    valence = _valence()
    known = (
        pl.element()
        .str.replace_all(_VARIATION, "")
        .replace_strict(valence["emoji"], valence["valence"], default=None, return_dtype=pl.Float64)
    )
    found = text.cast(pl.String).fill_null("").str.extract_many(_LONGEST_FIRST, leftmost=True)
    emoji = pl.col("emoji")
    shown = emoji.list.filter(~pl.element().str.ends_with(_TEXT_STYLE))
    return (
        pl.DataFrame({"emoji": found})
        .select(shown)
        .with_columns(
            emoji_count=emoji.list.len().cast(pl.Int32),
            emoji_unique=emoji.list.n_unique().cast(pl.Int32),
            emoji_sentiment=emoji.list.eval(known).list.mean(),
        )
    )
