"""The sentence encoder: normalised texts to unit vectors, the same to the last digit alone or in a batch."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DIMENSIONS = 384
MAX_TOKENS = 128
BATCH = 16
# A token is at most this many characters on average in any text worth reading; what lies beyond the last
# token is never seen, so a 1 MB line need not be tokenised whole.
MAX_CHARACTERS = MAX_TOKENS * 40


@lru_cache(maxsize=8)
def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Int8Encoder:
    """all-MiniLM-L6-v2 with int8 weights on ONNX Runtime: mean of the token vectors, normalised.

    Activations stay float32, which is why a vector does not depend on what else is in its batch.

    Args:
        weights: the ONNX file.
        tokenizer: the matching ``tokenizer.json``.
        threads: batches that are encoded at a time, each on one thread: batches in parallel are faster than one
            batch on several threads, and as exact.
    """

    precision = "int8"

    def __init__(self, weights: Path, tokenizer: Path, threads: int = 2) -> None:
        self.weights, self.tokenizer, self.threads = weights, tokenizer, threads

    @property
    def identity(self) -> str:
        """Weights, tokenizer and precision in one line; part of the transform_id."""
        return f"{self.precision}:{file_digest(self.weights)}:{file_digest(self.tokenizer)}:{MAX_TOKENS}"

    @cached_property
    def _session(self) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        return ort.InferenceSession(str(self.weights), options, providers=["CPUExecutionProvider"])

    @cached_property
    def _tokens(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.no_padding()
        return tokenizer

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector a text, shape (len(texts), 384), in the order given.

        Texts are sorted by length before batching: padding to the longest of a mixed batch halves throughput.
        """
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        encodings = self._tokens.encode_batch([text[:MAX_CHARACTERS] for text in texts]) if texts else []
        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        with ThreadPoolExecutor(self.threads) as pool:
            encoded = pool.map(self._encode_batch, ([encodings[i].ids for i in rows] for rows in batches))
            for rows, found in zip(batches, encoded, strict=True):
                vectors[rows] = found
        return vectors

    def _encode_batch(self, ids: list[list[int]]) -> npt.NDArray[np.float32]:
        tokens = np.zeros((len(ids), max(map(len, ids))), np.int64)
        for row, row_ids in enumerate(ids):
            tokens[row, : len(row_ids)] = row_ids
        mask = (np.arange(tokens.shape[1]) < np.array([len(row) for row in ids])[:, None]).astype(np.int64)
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(None, feed)[0]
        # Each row is summed over its own tokens only: summing padded zeros too would change the order of
        # additions, and with it the last digit.
        pooled = np.stack([hidden[row, : len(row_ids)].mean(axis=0) for row, row_ids in enumerate(ids)])
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
