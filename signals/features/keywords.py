"""Key words and phrases of a text, by a variant of RAKE.

Source of the word scores: S. Rose, D. Engel, N. Cramer, W. Cowley, "Automatic keyword extraction from
individual documents", in Text Mining: Applications and Theory, 2010. Here the candidates are all phrases of 1
to 3 words within RAKE's runs of content words, and a phrase's score is its frequency times its mean word
score, so that a repeated word beats a long phrase said once.
"""

import polars as pl

from signals.features.linguistics import LINK, WORD

# URLs, @mentions and mail addresses.
_NOISE = LINK + r"|\S*@\S+"
_CLITIC = r"['\x{2019}](?:s|re|ve|ll|d|m)$"
_NUMBER_OR_NEGATION = r"^\p{N}+$|n['\x{2019}]t$"
_MAX_LENGTH = 40  # characters of a word; what is longer is data, not language
_MAX_WORDS = 3  # of a phrase

_STOP_WORDS = """
    a about above across actually after again against ago all almost along already also although always am
    among an and another any anyone anything are around as at away back be became because become been before
    behind being below between both but by came can cannot come could did do does doing done dont down
    during each either else enough etc even ever every everyone everything few first for from further gave
    get gets getting give go goes going gone gonna got had has have having he hello her here hers herself
    hey hi him himself his how however i if im in indeed instead into is it its itself just keep knew know
    knows last least less let like likely look looking looks lot made make makes making many may maybe me
    might mine more most much must my myself need needed needs neither never next no nobody none nor not
    nothing now nowhere of off often oh ok okay on once one only onto or other others our ours ourselves out
    over own per perhaps please put puts quite rather really said same say saying says see seem seems
    several shall she should since so some someone something sometimes soon still such sure take takes than
    thank thanks that the their theirs them themselves then there therefore these they thing things think
    this those though through thus to today together tomorrow too took toward two under until up upon us use
    used uses using very via want wanted wants was way we well went were what whatever when where whether
    which while who whole whom whose why will with within without would yeah yes yesterday yet you your
    yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def _ranked(tokens: pl.Series) -> pl.DataFrame:
    """Return `row` and its `phrase` list, best first, for the rows that have any."""
    word, weight, run = pl.col("word"), pl.col("weight"), pl.col("run")
    content = (
        ~word.is_in(STOP_WORDS)
        & ~word.str.contains(_NUMBER_OR_NEGATION)
        & word.str.len_chars().is_between(2, _MAX_LENGTH)
    )
    words = (
        pl.LazyFrame({"word": tokens})
        .with_row_index("row")
        .explode("word", empty_as_null=False)
        .with_columns(word.str.replace(_CLITIC, ""))
        .with_columns(content=content)
        .with_columns(run=pl.struct("row", "content").rle_id())
        .filter("content")
        # RAKE's word score, degree / frequency; a run adds no more to a degree than a phrase can have.
        .with_columns(weight=pl.len().over("run").clip(upper_bound=_MAX_WORDS))
        .with_columns(weight.mean().over("row", "word"))
    )

    def phrases(size: int) -> pl.LazyFrame:
        ahead = range(size)
        return words.select(
            "row",
            phrase=pl.concat_str([word.shift(-i) for i in ahead], separator=" "),
            weight=pl.sum_horizontal([weight.shift(-i) for i in ahead]) / size,
            whole=run == run.shift(1 - size),
        ).filter("whole")

    return (
        # Long phrases first: all below keep the order, so of equal scores the longer wins, then the earlier.
        pl.concat([phrases(size) for size in range(_MAX_WORDS, 0, -1)])
        .group_by("row", "phrase", maintain_order=True)
        .agg(score=pl.len() * weight.first())
        .sort("row", "score", descending=[False, True], maintain_order=True)
        .group_by("row", maintain_order=True)
        .agg("phrase")
        .collect()
    )


def _pick(phrases: list[str], top: int) -> list[str]:
    best: list[str] = []
    covered: set[str] = set()
    for phrase in phrases:
        words = phrase.split(" ")
        # Nothing new is said by a part of a better phrase, nor by a word repeated ("ha ha").
        if not covered.issuperset(words):
            covered.update(words)
            best.append(phrase)
        if len(best) == top:
            break
    return best


def keywords(text: pl.Series, top: int = 8) -> pl.Series:
    """Extract the key words and phrases of each text.

    Args:
        text: Strings, shape (n,); null counts as empty.
        top: Most phrases per text, at least 1.

    Returns:
        `keywords` (List[String]), shape (n,): up to `top` lower-case phrases of 1 to 3 words, best first,
        each with at least one word that no better one has (so none is part of a better one).

    Raises:
        ValueError: if `top` is less than 1.
        polars.exceptions.InvalidOperationError: if `text` can not be cast to strings.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    tokens = (
        text.cast(pl.String)
        .fill_null("")
        .str.replace_all(_NOISE, " . ")
        .str.to_lowercase()
        .str.extract_all(WORD + r"|[\S\n]")
    )
    found: list[list[str]] = [[] for _ in text]
    for row, phrases in _ranked(tokens).iter_rows():
        found[row] = _pick(phrases, top)
    return pl.Series("keywords", found, dtype=pl.List(pl.String))
