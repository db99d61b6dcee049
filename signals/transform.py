"""The identity of the transformation: what a model was trained under, and what it must be served under."""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

# Whatever changes the numbers a head sees: our source, and the libraries that our source hands text to.
SOURCES = ("text.py", "pages.py", "encoder.py", "ngrams.py", "heads.py", "images.py")
LIBRARIES = ("trafilatura", "tokenizers", "numpy")


class TransformMismatchError(RuntimeError):
    """A model was trained under another transformation than the one that is running."""

    def __init__(self, model: str, trained_under: str, running: str) -> None:
        super().__init__(
            f"model {model} was trained under transform_id {trained_under}, but {running} is running: "
            "it does not score. Retrain it, or run the platform version that it was trained with."
        )


@lru_cache(maxsize=8)
def transform_id(encoder_identity: str) -> str:
    """Return the identity of source, libraries and encoder together: 16 hexadecimal digits."""
    digest = hashlib.sha256(encoder_identity.encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library}=={version(library)}".encode())
    return digest.hexdigest()[:16]


def require_same(model: str, trained_under: str, running: str) -> None:
    """Raise TransformMismatchError unless both ids are the same."""
    if trained_under != running:
        raise TransformMismatchError(model, trained_under, running)
