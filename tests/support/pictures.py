"""Pictures of every kind, and a model of them."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

EYE = np.eye(3)
# A model that answers by colour: the mean of red, green and blue.
COLOURS = {
    "labels": {"red": "arms", "green": "safe", "blue": "drugs"},
    "size": [8, 12],
    "layout": "NCHW",
    "outputs": "probabilities",
}

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


def encoded(mode="RGB", kind="PNG", size=(20, 10), colour=0, image=None):
    """Return the bytes of a picture, of one colour if none is given."""
    stream = io.BytesIO()
    (image or Image.new(mode, size, colour)).save(stream, kind)
    return stream.getvalue()


def by_colour(folder: Path, weights=EYE, **described) -> Path:
    """Write a model whose outputs are the mean colours times some weights."""
    path, layout = folder / "colours.onnx", (COLOURS | described)["layout"]
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["colours"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["colours", "weights"], ["labels"]),
    ]
    shape = ["n", 3, 8, 12] if layout == "NCHW" else ["n", 8, 12, 3]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("labels", TensorProto.FLOAT, ["n", np.shape(weights)[1]])],
        [numpy_helper.from_array(np.array(weights, np.float32), "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    path.with_suffix(".json").write_text(json.dumps(COLOURS | described))
    return path
