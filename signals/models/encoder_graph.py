"""A BERT-like encoder as an ONNX graph for a CPU: trained float weights in, int8 matrix products out.

Built here rather than exported: the same few operators serve any weights of this architecture, and the fused int8
ones are what makes it fast. One run is one text, so the range that activations are quantised over is that text's own,
and its vector cannot depend on what is encoded beside it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

HEADS = 12
EPSILON = 1e-12
# Weights take 7 bits: with 8, processors that lack VNNI saturate in sums of two products, and others do not.
LARGEST = 63
FUSED = "com.microsoft"

Weights = Mapping[str, npt.NDArray[np.float32]]


def encoder_graph(weights: Weights) -> bytes:
    """Return a model whose input is ``ids``, int64 (1, tokens), and output ``vector``, float32 (1, dimensions).

    Args:
        weights: of a BertModel, by the names that Transformers gives them.
    """
    graph = _Graph(weights)
    hidden = graph.embeddings()
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
    for layer in range(layers):
        hidden = graph.layer(hidden, f"encoder.layer.{layer}.")
    return graph.model(hidden)


class _Graph:
    """Nodes and constants so far; each method adds some and returns the name of what they give."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def embeddings(self) -> str:
        places = self.weights["embeddings.position_embeddings.weight"]
        kind = self.weights["embeddings.token_type_embeddings.weight"][0]
        tokens = self.add("Shape", ["ids"], start=1, end=2)
        first = self.constant(np.array([0]))
        here = self.add("Slice", [self.constant(places + kind), first, tokens, first])
        words = self.add("Gather", [self.constant(self.weights["embeddings.word_embeddings.weight"]), "ids"])
        return self.normalised(words, here, "embeddings.LayerNorm")

    def layer(self, hidden: str, prefix: str) -> str:
        parts = self.product(hidden, *(f"{prefix}attention.self.{part}" for part in ("query", "key", "value")))
        split = [f"{parts}.{part}" for part in ("query", "key", "value")]
        self.nodes.append(helper.make_node("Split", [parts], split, axis=-1, num_outputs=3))
        attended = self.add("MultiHeadAttention", split, FUSED, num_heads=HEADS)
        attended = self.product(attended, f"{prefix}attention.output.dense")
        hidden = self.normalised(attended, hidden, f"{prefix}attention.output.LayerNorm")
        inner = self.product_by_token(hidden, f"{prefix}intermediate.dense")
        inner = self.add("BiasGelu", [inner, self.bias(f"{prefix}intermediate.dense")], FUSED)
        outer = self.product_by_token(inner, f"{prefix}output.dense")
        outer = self.add("Add", [outer, self.bias(f"{prefix}output.dense")])
        return self.normalised(outer, hidden, f"{prefix}output.LayerNorm")

    def product(self, value: str, *names: str, biased: bool = True) -> str:
        """Add one int8 product with the weights of some linear layers side by side, and their biases."""
        weight = np.concatenate([self.weights[f"{name}.weight"] for name in names]).T
        scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / LARGEST
        quantised = np.round(weight / scale).astype(np.int8)
        constants = (quantised, scale.astype(np.float32), np.zeros(len(scale), np.int8))
        biases = [self.bias(*names)] if biased else []
        return self.add("DynamicQuantizeMatMul", [value, *map(self.constant, constants), *biases], FUSED)

    def product_by_token(self, value: str, name: str) -> str:
        """Add one int8 product, without its bias, of values that are rounded relative to the largest of their token.

        Around its feed-forward layers a text has a few values ten times as large as all others; relative to those, all
        its tokens would be rounded coarsely.
        """
        largest = self.add("ReduceMax", [self.add("Abs", [value]), self.constant(np.array([-1]))], keepdims=1)
        largest = self.add("Max", [largest, self.constant(np.array(EPSILON, np.float32))])
        found = self.product(self.add("Div", [value, largest]), name, biased=False)
        return self.add("Mul", [found, largest])

    def bias(self, *names: str) -> str:
        return self.constant(np.concatenate([self.weights[f"{name}.bias"] for name in names]))

    def normalised(self, value: str, skipped: str, name: str) -> str:
        """Add the normalised sum of two values: two operators, for the fused one is a third as fast on a CPU."""
        scale, shift = (self.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", [self.add("Add", [value, skipped]), scale, shift], epsilon=EPSILON)

    def model(self, hidden: str) -> bytes:
        """Return the whole, which ends in the mean of the token vectors, divided by its length."""
        axis = self.constant(np.array([1]))
        mean = self.add("ReduceMean", [hidden, axis], keepdims=0)
        length = self.add("ReduceL2", [mean, axis], keepdims=1)
        self.nodes.append(helper.make_node("Div", [mean, length], ["vector"]))
        ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "tokens"])
        dimensions = self.weights["embeddings.word_embeddings.weight"].shape[1]
        vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, dimensions])
        graph = helper.make_graph(self.nodes, "encoder", [ids], [vector], self.constants)
        operators = [helper.make_opsetid("", 21), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=operators, ir_version=10).SerializeToString()

    def add(self, operator: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        output = f"{operator}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, value: npt.NDArray[Any]) -> str:
        name = f"constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
