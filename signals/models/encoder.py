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
# What all-MiniLM-L6-v2 learned to read.
LANGUAGES = ("en",)
MAX_TOKENS = 96
# A token is at most this many characters on average in any text worth reading; what lies beyond the last
# token is never seen, so a 1 MB line need not be tokenised whole.
MAX_CHARACTERS = MAX_TOKENS * 40


@lru_cache(maxsize=8)
def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokens_of(tokenizer: Path) -> Any:
    """Return the tokenizer of a ``tokenizer.json`` as every encoder uses it: ``MAX_TOKENS`` at most, no padding."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(tokenizer))
    found.enable_truncation(MAX_TOKENS)
    found.no_padding()
    return found


class Int8Encoder:
    """all-MiniLM-L6-v2 with int8 products on ONNX Runtime: mean of the token vectors, normalised.

    Args:
        weights: trained weights in float32, safetensors.
        tokenizer: the matching ``tokenizer.json``.
        threads: texts that are encoded at a time, each on one thread: as fast as batches, without their padding,
            and what activations are quantised by is each text's own.
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
        from safetensors.numpy import load_file

        from signals.models.encoder_graph import encoder_graph

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The graph is as it should run: ONNX Runtime's own fusions would slow it.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(encoder_graph(load_file(self.weights)), options, ["CPUExecutionProvider"])

    @cached_property
    def _tokens(self) -> Any:
        return tokens_of(self.tokenizer)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector a text, shape (len(texts), 384), in the order given."""
        if not texts:
            return np.empty((0, DIMENSIONS), np.float32)
        encodings = self._tokens.encode_batch([text[:MAX_CHARACTERS] for text in texts])
        session = self._session

        def vector(encoding: Any) -> npt.NDArray[np.float32]:
            return session.run(None, {"ids": np.array([encoding.ids])})[0]

        with ThreadPoolExecutor(self.threads) as pool:
            return np.concatenate(list(pool.map(vector, encodings)))
