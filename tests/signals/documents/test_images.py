import struct
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signals.documents.images import MAX_PIXELS, Picture, probe_image
from tests.support.pictures import FORMATS, encoded

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def declared_png(width, height):
    """Return a PNG that says it has that many pixels and has none."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("mode", "kind"), FORMATS)
def test_formats_are_told(mode, kind):
    assert probe_image(encoded(mode, kind)) == Picture(kind.lower(), 20, 10)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"no picture",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        encoded()[:40],
        encoded("RGB", "JPEG", (64, 64))[:300],
        encoded("RGB", "WEBP")[:-10],
        declared_png(20, 10),
        declared_png(0, 10),
    ],
    ids=[
        "none",
        "empty",
        "text",
        "svg",
        "eps",
        "png header",
        "half jpeg",
        "half webp",
        "png without pixels",
        "no width",
    ],
)
def test_what_cannot_be_decoded_is_no_picture(body):
    assert probe_image(body) is None


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (1, MAX_PIXELS + 1), (10_000, 5_001)])
def test_a_bomb_is_refused_before_it_is_decoded(size):
    assert probe_image(declared_png(*size)) is None


def test_a_bomb_that_decodes_is_refused_too():
    flat = encoded("1", "PNG", (8_000, 8_000))
    assert len(flat) < 50_000
    assert probe_image(flat) is None


@settings(max_examples=150)
@given(st.sampled_from(["PNG", "GIF", "JPEG", "WEBP", "BMP", "TIFF"]), st.data())
def test_damaged_bytes_never_crash(kind, data):
    body = bytearray(encoded("P" if kind == "GIF" else "RGB", kind))
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    body = bytes(body[: data.draw(st.integers(1, len(body)))])
    assert probe_image(body) is None or isinstance(probe_image(body), Picture)


def test_a_damaged_avif_never_crashes():
    body = encoded("RGB", "AVIF", (64, 64))
    assert probe_image(body[:-20] + b"\xff" * 20) is None


@settings(max_examples=100)
@given(st.binary(max_size=200))
@example(b"\x89PNG\r\n\x1a\n")
@example(b"GIF89a")
@example(b"RIFF\0\0\0\0WEBP")
def test_any_bytes_never_crash(body):
    assert probe_image(body) is None or isinstance(probe_image(body), Picture)
