"""Hashed word and character n-grams: what a sentence vector forgets (names, spelling, emoji, slang).

A substring's hash is a difference of prefix sums of ``character * BASE**position`` modulo 2**64, so all n-grams
of all texts are hashed by a handful of array operations, about twenty times faster than one text at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Four times as many features answer no better on held-out labels, and train half as fast.
WORD_BITS = 14
CHARACTER_BITS = 14
FEATURES = 2**WORD_BITS + 2**CHARACTER_BITS
CHARACTER_LENGTHS = (3, 4, 5)
# A long page repeats itself: its first characters carry its n-grams, and bound the cost of a 1 MB line.
MAX_CHARACTERS = 2_000
CHUNK = 1_000

BASE = 0x9E3779B97F4A7C15 | 1
INVERSE = pow(BASE, -1, 2**64)

Hashes = npt.NDArray[np.uint64]


def ngrams(texts: Sequence[str]) -> Any:
    """Return a float32 CSR matrix of shape (len(texts), FEATURES): words and word pairs, then characters.

    A weight is log(1 + count); each half of a row has unit length (or is empty), so long and short texts
    weigh the same.
    """
    from scipy.sparse import csr_matrix, vstack

    chunks = [_chunk(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
    return vstack(chunks, format="csr") if chunks else csr_matrix((0, FEATURES), dtype=np.float32)


def words(text: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the words of a text in lower case, each once, and the column of ``ngrams`` that counts each."""
    lower = text[:MAX_CHARACTERS].lower()
    codes = np.frombuffer(lower.encode("utf-32-le", "replace"), np.uint32)
    starts, ends = _tokens(codes, np.zeros(len(codes), np.int64))
    columns = (_substring_hashes(codes)(starts, ends) >> np.uint64(64 - WORD_BITS)).astype(np.int64)
    tokens = [lower[start:end] for start, end in zip(starts, ends, strict=True)]
    places = {token: place for place, token in enumerate(tokens) if token.isalnum()}
    return list(places), columns[list(places.values())]


def _chunk(texts: Sequence[str]) -> Any:
    from scipy.sparse import hstack

    # Blanks around a text let a character n-gram say "begins" and "ends".
    heads = [f" {text[:MAX_CHARACTERS].lower()} " for text in texts]
    codes = np.frombuffer("".join(heads).encode("utf-32-le", "replace"), np.uint32)
    rows = np.repeat(np.arange(len(heads)), [len(head) for head in heads])
    substring = _substring_hashes(codes)
    starts, ends = _tokens(codes, rows)
    words = substring(starts, ends)
    pairs = np.flatnonzero(rows[starts[:-1]] == rows[starts[1:]])
    characters = []
    for length in CHARACTER_LENGTHS:
        begin = np.arange(max(len(codes) - length + 1, 0))
        begin = begin[rows[begin] == rows[begin + length - 1]]
        characters.append((rows[begin], substring(begin, begin + length)))
    return hstack(
        [
            _counts(
                np.concatenate([rows[starts], rows[starts[pairs]]]),
                np.concatenate([words, _mix(words[pairs] * np.uint64(3) + words[pairs + 1])]),
                len(texts),
                WORD_BITS,
            ),
            _counts(
                np.concatenate([row for row, _ in characters]),
                np.concatenate([hashes for _, hashes in characters]),
                len(texts),
                CHARACTER_BITS,
            ),
        ],
        format="csr",
    )


def _substring_hashes(
    codes: npt.NDArray[np.uint32],
) -> Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Hashes]:
    """Return what gives the hash of each substring, by its start and end."""
    powers = _powers(len(codes) + 1)
    prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * powers[0][: len(codes)], dtype=np.uint64)])
    return lambda start, end: _mix((prefix[end] - prefix[start]) * powers[1][start])


def _powers(length: int) -> tuple[Hashes, Hashes]:
    """Return BASE**i and BASE**-i modulo 2**64 for i in range(length)."""
    steps = np.full((2, length), [[BASE], [INVERSE]], np.uint64)
    steps[:, 0] = 1
    powers = np.cumprod(steps, axis=1, dtype=np.uint64)
    return powers[0], powers[1]


def _mix(hashes: Hashes) -> Hashes:
    """Spread the bits (the finaliser of MurmurHash3): low bits of a polynomial hash are weak."""
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return hashes ^ (hashes >> np.uint64(33))


def _tokens(codes: npt.NDArray[np.uint32], rows: npt.NDArray[np.int64]) -> tuple[Any, Any]:
    """Return starts and ends of tokens: runs of letters and digits, and every other visible character alone."""
    distinct, where = np.unique(codes, return_inverse=True)
    letter = np.array([chr(code).isalnum() for code in distinct], bool)[where]
    blank = np.array([chr(code).isspace() for code in distinct], bool)[where]
    joined = letter[1:] & letter[:-1] & (rows[1:] == rows[:-1])
    starts = np.flatnonzero(~blank & np.concatenate([[True], ~joined]))
    ends = np.flatnonzero(~blank & np.concatenate([~joined, [True]])) + 1
    return starts, ends


def _counts(rows: npt.NDArray[np.int64], hashes: Hashes, height: int, bits: int) -> Any:
    from scipy.sparse import csr_matrix

    columns = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    counts = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(height, 2**bits))
    counts.sum_duplicates()
    counts.data = np.log1p(counts.data)
    lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    counts.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(counts.indptr)).astype(np.float32)
    return counts
