"""Pictures: whether bytes are one, and how large it is."""

import io
from dataclasses import dataclass

# A picture of more pixels is a decompression bomb, not an illustration.
MAX_PIXELS = 50_000_000


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
