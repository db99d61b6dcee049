"""How a text is written: length, readability, variety, pronouns, negation, emphasis.

Words are runs of letters and digits in any script; syllables, pronouns and negations are those of English.
Links and emoji are not words.
"""

import polars as pl

# Without the punctuation after it, which belongs to the sentence.
LINK = r"(?i:\b(?:https?://|www\.)\S*[\w/])"
# Joiners after a letter belong to words of Persian and of India's scripts; \w would also match those inside emoji.
_LETTERS = r"[\p{L}\p{N}][\p{L}\p{M}\p{N}\x{200C}\x{200D}]*"
WORD = rf"{_LETTERS}(?:['\x{{2019}}-]{_LETTERS})*"
QUESTION = r"[?\x{FF1F}\x{61F}]"  # ASCII, full-width, Arabic
_EXCLAMATION = r"[!\x{FF01}]"
# A digit or letter with a variation selector (1️⃣) is an emoji.
_NOT_PROSE = LINK + r"|[\p{L}\p{N}]\x{FE0F}\x{20E3}?"
# A full stop ends a sentence before a space only (not in 3.14), its Chinese and Arabic kin anywhere.
_STOP = r"[.!?\x{2026}][^\p{L}\p{N}\s]*(?:\s|$)|[\x{3002}\x{FF01}\x{FF1F}\x{61F}]"
# From a sentence's last letter to its stop, line break or end of text, so that "?!" and "! 😀" are one end.
_SENTENCE_END = r"[\p{L}\p{N}][^\p{L}\p{N}]*?(?:" + _STOP + r"|\n|$)"
_VOWELS = r"[aeiouy]+"
# Endings whose e is silent: "make", "jumped", "times", but not "table", "wanted", "boxes".
_SILENT_E = r"(?:[^aeiouyl]|[aeiouy]l)e$|[^aeiouytd]ed$|[^aeiouycghlsxz]es$"

_FIRST_SINGULAR = "i me my mine myself"
_FIRST_PLURAL = "we us our ours ourselves"
_SECOND = "you your yours yourself yourselves"
_THIRD = "he him his himself she her hers herself it its itself they them their theirs themselves"
_NEGATIONS = "no not never none nobody nothing nowhere neither nor cannot"


def _share(pattern: str) -> pl.Expr:
    """Share of words that match, 0 for a text without words."""
    return pl.col("word").list.eval(pl.element().str.contains(pattern)).list.mean().fill_null(0.0)


def _one_of(words: str) -> str:
    """Pattern of the words and their contractions ("i" is also "i'm")."""
    return f"^(?:{words.replace(' ', '|')})(?:'|$)"


def linguistic_features(text: pl.Series) -> pl.DataFrame:
    """Measure the wording of each text.

    Reading ease is Flesch's 206.835 - 1.015 words/sentence - 84.6 syllables/word (R. Flesch, "A new
    readability yardstick", Journal of Applied Psychology 32(3), 1948, 221-233), with the syllables estimated
    from the spelling. Plain English is around 60-70; higher is easier; the value is not bounded.

    Args:
        text: Strings, shape (n,); null counts as empty.

    Returns:
        Shape (n, 14): counts (Int32) `words`, `sentences`, `characters` (code points), `exclamations`,
        `questions` (marks); Float64 `mean_word_length` (characters), `reading_ease` and `lexical_diversity`
        (distinct words / words, in (0, 1]), both null without words; shares of words in [0, 1]
        `pronouns_first_singular`, `pronouns_first_plural`, `pronouns_second`, `pronouns_third`, `negations`;
        and `uppercase_share`, the share of letters. Shares and mean length of nothing are 0.

    Raises:
        polars.exceptions.InvalidOperationError: if `text` can not be cast to strings.
    """
    raw, prose, word = pl.col("text"), pl.col("prose"), pl.col("word")
    words = word.list.len()
    vowels = pl.element().str.count_matches(_VOWELS).cast(pl.Int32)
    syllables = (vowels - pl.element().str.contains(_SILENT_E)).clip(lower_bound=1)
    words_per_sentence = words / prose.str.count_matches(_SENTENCE_END)
    syllables_per_word = word.list.eval(syllables).list.mean()
    uppercase_share = raw.str.count_matches(r"\p{Lu}") / raw.str.count_matches(r"\p{L}")
    return (
        pl.DataFrame({"text": text.cast(pl.String).fill_null("")})
        .with_columns(prose=raw.str.replace_all(_NOT_PROSE, " "))
        .with_columns(word=prose.str.to_lowercase().str.replace_all("\u2019", "'").str.extract_all(WORD))
        .select(
            words=words.cast(pl.Int32),
            sentences=prose.str.count_matches(_SENTENCE_END).cast(pl.Int32),
            characters=raw.str.len_chars().cast(pl.Int32),
            mean_word_length=word.list.eval(pl.element().str.len_chars()).list.mean().fill_null(0.0),
            reading_ease=206.835 - 1.015 * words_per_sentence - 84.6 * syllables_per_word,
            lexical_diversity=(word.list.n_unique() / words).fill_nan(None),
            pronouns_first_singular=_share(_one_of(_FIRST_SINGULAR)),
            pronouns_first_plural=_share(_one_of(_FIRST_PLURAL)),
            pronouns_second=_share(_one_of(_SECOND)),
            pronouns_third=_share(_one_of(_THIRD)),
            negations=_share(_one_of(_NEGATIONS) + "|n't$"),
            exclamations=prose.str.count_matches(_EXCLAMATION).cast(pl.Int32),
            questions=prose.str.count_matches(QUESTION).cast(pl.Int32),
            uppercase_share=uppercase_share.fill_nan(0.0),
        )
    )
