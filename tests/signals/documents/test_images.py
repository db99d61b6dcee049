import io
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from signals.documents.images import MAX_PIXELS, OpenNsfw, Picture, package, probe_image
from tests.support import SHARED

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

CORPUS = SHARED / "data" / "images_safety"
FORMATS = [
    ("RGB", "JPEG"),
    ("CMYK", "JPEG"),
    ("RGB", "PNG"),
    ("RGBA", "PNG"),
    ("P", "PNG"),
    ("1", "PNG"),
    ("I;16", "PNG"),
]
FORMATS += [("P", "GIF"), ("RGBA", "WEBP"), ("RGB", "BMP"), ("L", "TIFF"), ("F", "TIFF"), ("RGB", "AVIF")]


def encoded(mode="RGB", kind="PNG", size=(20, 10)):
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue()


def declared_png(width, height):
    """Return a PNG that says it has that many pixels and has none."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("model")
    package(found, ("safe", "adult"), task="image_threat", transform_id="0123456789abcdef")
    return found


@pytest.fixture(scope="module")
def model(folder):
    return OpenNsfw(folder, ("safe", "adult"))


@pytest.mark.parametrize(("mode", "kind"), FORMATS)
def test_formats_are_told_and_what_is_told_can_be_scored(model, mode, kind):
    body = encoded(mode, kind)
    assert probe_image(body) == Picture(kind.lower(), 20, 10)
    assert model.scores([body]).sum() == pytest.approx(1.0)


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


def test_the_packaged_model_is_two_files_of_data(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "open_nsfw.onnx"]
    assert json.loads((folder / "model.json").read_text(encoding="utf-8")) == {
        "family": "open-nsfw",
        "labels": ["safe", "adult"],
        "task": "image_threat",
        "transform_id": "0123456789abcdef",
    }


def test_pictures_are_scored_the_same_alone_and_together(model):
    rng = np.random.default_rng(0)
    bodies = []
    for _ in range(3):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(stream, "PNG")
        bodies.append(stream.getvalue())
    together = model.scores(bodies)
    assert together.shape == (3, 2)
    assert np.allclose(together.sum(axis=1), 1.0)
    assert ((together >= 0) & (together <= 1)).all()
    assert np.concatenate([model.scores([body]) for body in bodies]).tobytes() == together.tobytes()
    assert len({row.tobytes() for row in together}) == 3


def test_no_pictures_have_no_scores(model):
    assert model.scores([]).shape == (0, 2)


def test_real_benign_pictures_are_decoded_and_safe(model):
    if not CORPUS.exists():
        pytest.skip(f"{CORPUS} is not here")
    bodies = [path.read_bytes() for path in sorted((CORPUS / "benign").iterdir())[::4]]
    assert all(probe_image(body) for body in bodies)
    safe = model.scores(bodies).argmax(axis=1) == 0
    assert safe.mean() >= 0.9
