"""The identity of the transformation: what a model was trained under, and what it must be served under."""

import hashlib
import unicodedata
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

# Our source, and the libraries that our source hands text to, that change a vector.
VECTOR_SOURCES = ("text.py", "encoder.py", "encoder_graph.py")
VECTOR_LIBRARIES = ("tokenizers", "onnxruntime", "regex")
# And whatever else changes the numbers that a model sees or gives.
SOURCES = ("pages.py", "page_bytes.py", "page_metadata.py", "ngrams.py", "heads.py", "images.py", "scoring.py")
LIBRARIES = ("trafilatura", "lxml", "charset-normalizer", "py3langid")


class TransformMismatchError(RuntimeError):
    """A model was trained under another transformation than the one that is running."""

    def __init__(self, model: str, trained_under: str, running: str) -> None:
        super().__init__(
            f"model {model} was trained under transform_id {trained_under}, but {running} is running: "
            "it does not score. Retrain it, or run the platform version that it was trained with."
        )


@lru_cache(maxsize=8)
def encoder_id(identity: str) -> str:
    """Return the identity of a vector: of the encoder and the text that it is given; 16 hexadecimal digits."""
    return _named(identity, VECTOR_SOURCES, VECTOR_LIBRARIES)


@lru_cache(maxsize=8)
def transform_id(identity: str) -> str:
    """Return the identity of the whole transformation, given the encoder's: 16 hexadecimal digits."""
    return _named(encoder_id(identity), SOURCES, LIBRARIES)


def _named(identity: str, sources: tuple[str, ...], libraries: tuple[str, ...]) -> str:
    # The normal form is by the version of Unicode that Python was built with.
    digest = hashlib.sha256(f"{identity} Unicode {unicodedata.unidata_version}".encode())
    for name in sources:
        digest.update((Path(__file__).parent / name).read_bytes())
    for library in libraries:
        digest.update(f"{library}=={version(library)}".encode())
    return digest.hexdigest()[:16]


def require_same(model: str, trained_under: str, running: str) -> None:
    """Raise TransformMismatchError unless both ids are the same."""
    if trained_under != running:
        raise TransformMismatchError(model, trained_under, running)
