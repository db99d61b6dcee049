"""Any sentence-transformers model as the encoder, with the tokenizer, pooling, prompt and length that it comes with."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from signals.models.heads import directory_digest
from signals.models.transform import identity_of


class SentenceEncoder:
    """A model in the layout of sentence-transformers, in single precision.

    Args:
        folder: its files.
        device: where torch computes.
    """

    precision = "float32"

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.device = folder, device

    @property
    def identity(self) -> str:
        """Files, precision, device and what computes with them in one line; part of the transform_id."""
        return f"{self.precision}:{self.device}:{files_digest(self.folder)}:{identity_of('', (__name__,))}"

    @cached_property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self._model.get_embedding_dimension() or 0)

    @cached_property
    def languages(self) -> tuple[str, ...] | None:
        """Languages that its model card states (ISO 639-1); None, which is any, where it states none or more."""
        from huggingface_hub import ModelCard

        card = self.folder / "README.md"
        stated = ModelCard.load(card).data.get("language") if card.is_file() else None
        codes = [stated] if isinstance(stated, str) else stated or ["multilingual"]
        return None if "multilingual" in codes else tuple(codes)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector a text, shape (len(texts), dimensions), in the order given."""
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        # A tokenizer without marks of its own gives an empty text no token, on which models fail.
        filled = [text or "." for text in texts]
        # One text a batch: with others, padding would change the last digits of its vector.
        return self._model.encode(filled, batch_size=1, normalize_embeddings=True, show_progress_bar=False)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self.folder), device=self.device)


@lru_cache(maxsize=4)
def files_digest(folder: Path) -> str:
    """Return the SHA-256 over a model's files."""
    return directory_digest(folder)
