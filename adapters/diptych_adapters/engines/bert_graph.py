"""A BERT encoder as an ONNX model, written from its weights without torch: ids and mask to one vector per text.

The graph computes what transformers' BertModel and the pooling of sentence-transformers compute (Devlin et al. 2019;
Reimers and Gurevych 2019). OpenVINO reads the same model through its own ONNX front end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diptych.types import Floats
from diptych_adapters.engines.batches import CHANNELS, MASK
from diptych_adapters.engines.openvino_graph import HIDDEN

OPSET = 20  # the first with Gelu
IR_VERSION = 9
PREFIXES = ("", "bert.")
UNREAD = ("pooler.", "cls.", "embeddings.position_ids")  # weights of heads that an encoder does not use, and counters
ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


@dataclass(frozen=True, slots=True)
class Shape:
    """The facts in a BERT model's config.json that decide the graph.

    Args:
        layers: of the encoder.
        heads: of attention in each layer.
        width: of a token's vector.
        inner: width of the feed-forward layers.
        words, positions: rows of their tables of embeddings.
        epsilon: added to the variance in layer norms.
        activation: of the feed-forward layers, a key of `ACTIVATIONS`.
    """

    layers: int
    heads: int
    width: int
    inner: int
    words: int
    positions: int
    epsilon: float
    activation: str


def bert_shape(config: Mapping[str, Any]) -> Shape | None:
    """The shape in a config.json; None for other architectures and unsupported variants."""
    supported = {"model_type": "bert", "is_decoder": False, "add_cross_attention": False}
    supported |= {"position_embedding_type": "absolute"}
    if any(config.get(name, value) != value for name, value in supported.items()) or "model_type" not in config:
        return None
    if config.get("hidden_act", "gelu") not in ACTIVATIONS:
        return None
    return Shape(
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        width=int(config["hidden_size"]),
        inner=int(config["intermediate_size"]),
        words=int(config["vocab_size"]),
        positions=int(config["max_position_embeddings"]),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        activation=str(config.get("hidden_act", "gelu")),
    )


def expected_weights(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and shape of each weight that the graph needs."""
    width, inner = shape.width, shape.inner
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape.words, width),
        "embeddings.position_embeddings.weight": (shape.positions, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for number in range(shape.layers):
        prefix = f"encoder.layer.{number}."
        sizes = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        sizes |= {"attention.output.dense": (width, width)}
        sizes |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
        for name, size in sizes.items():
            shapes |= {f"{prefix}{name}.weight": size, f"{prefix}{name}.bias": size[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{prefix}{name}.weight": (width,), f"{prefix}{name}.bias": (width,)}
    return shapes


def bert_model(shape: Shape, weights: Mapping[str, Floats], pooling: str, *, normalize: bool) -> Any:
    """The ONNX model, for any number of rows and tokens.

    Args:
        shape: of the model.
        weights: float32, by the names of `expected_weights`, and `embeddings.token_type_embeddings.weight`.
        pooling: mean, cls or max, of token vectors to one.
        normalize: make that vector's length 1.
    """
    net = _Net()
    mask = net.op("Cast", [MASK], to=1)  # float32
    penalty = net.op("Mul", [net.op("Sub", [net.number(1), mask]), net.number(HIDDEN)])
    bias = net.op("Unsqueeze", [penalty, net.shape(1, 2)])  # [rows, 1, 1, tokens]
    tokens = _embedded(net, shape, weights)
    for number in range(shape.layers):
        tokens = _layer(net, shape, weights, f"encoder.layer.{number}.", tokens, bias)
    pooled = _pooled(net, tokens, mask, pooling)
    vector = net.op("LpNormalization", [pooled], axis=-1, p=2) if normalize else pooled
    return net.model(net.op("Identity", [vector], into="answer"), shape.width)


def _embedded(net: _Net, shape: Shape, weights: Mapping[str, Floats]) -> str:
    """Word, position and type embeddings, `[rows, tokens, width]`."""
    table = net.constant(weights["embeddings.word_embeddings.weight"], "embeddings.word_embeddings.weight")
    words = net.op("Gather", [table, CHANNELS[0]])
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    length = net.op("Shape", [CHANNELS[0]], start=1, end=2)
    first = net.op("Slice", [net.constant(positions, "places"), net.shape(0), length, net.shape(0)])
    return net.layer_norm(net.op("Add", [words, first]), weights, "embeddings.LayerNorm", shape.epsilon)


def _layer(net: _Net, shape: Shape, weights: Mapping[str, Floats], prefix: str, tokens: str, bias: str) -> str:
    """One layer: attention and feed-forward, each added to its input and normalised."""
    context = net.linear(
        _attention(net, shape, weights, prefix, tokens, bias), weights, f"{prefix}attention.output.dense"
    )
    name = f"{prefix}attention.output.LayerNorm"
    tokens = net.layer_norm(net.op("Add", [context, tokens]), weights, name, shape.epsilon)
    inner = net.linear(tokens, weights, f"{prefix}intermediate.dense")
    inner = net.op("Gelu", [inner], approximate=ACTIVATIONS[shape.activation])
    output = net.linear(inner, weights, f"{prefix}output.dense")
    return net.layer_norm(net.op("Add", [output, tokens]), weights, f"{prefix}output.LayerNorm", shape.epsilon)


def _attention(net: _Net, shape: Shape, weights: Mapping[str, Floats], prefix: str, tokens: str, bias: str) -> str:
    """The attention output of each token, `[rows, tokens, width]`."""
    size = shape.width // shape.heads

    def heads(part: str, *order: int) -> str:
        projected = net.linear(tokens, weights, f"{prefix}attention.self.{part}")
        return net.op("Transpose", [net.op("Reshape", [projected, net.shape(0, 0, shape.heads, size)])], perm=order)

    query, key, value = heads("query", 0, 2, 1, 3), heads("key", 0, 2, 3, 1), heads("value", 0, 2, 1, 3)
    likeness = net.op("Mul", [net.op("MatMul", [query, key]), net.number(size**-0.5)])
    probabilities = net.op("Softmax", [net.op("Add", [likeness, bias])], axis=-1)
    context = net.op("Transpose", [net.op("MatMul", [probabilities, value])], perm=(0, 2, 1, 3))
    return net.op("Reshape", [context, net.shape(0, 0, shape.width)])


def _pooled(net: _Net, tokens: str, mask: str, pooling: str) -> str:
    """One vector of each row's tokens, `[rows, width]`."""
    if pooling == "cls":
        return net.op("Gather", [tokens, net.constant(np.array(0, np.int64))], axis=1)
    mask = net.op("Unsqueeze", [mask, net.shape(2)])
    if pooling == "max":
        penalty = net.op("Mul", [net.op("Sub", [net.number(1), mask]), net.number(-1e9)])
        return net.op("ReduceMax", [net.op("Add", [tokens, penalty]), net.shape(1)], keepdims=0)
    total = net.op("ReduceSum", [net.op("Mul", [tokens, mask]), net.shape(1)], keepdims=0)
    return net.op("Div", [total, net.op("ReduceSum", [mask, net.shape(1)], keepdims=0)])


@dataclass(slots=True)
class _Net:
    """Nodes and constants of the graph under construction. A value is known by its name."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def op(self, kind: str, inputs: list[str], *, into: str = "", **attributes: Any) -> str:
        """Add an operation; returns the name of its result."""
        from onnx import helper

        name = into or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: Any, name: str = "") -> str:
        """Add an array, such as a weight."""
        from onnx import numpy_helper

        array = np.array(values, order="C")
        name = name or f"constant_{array.dtype}{array.ndim}_{'_'.join(map(str, np.atleast_1d(array)))}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def shape(self, *sizes: int) -> str:
        """Add the shape for a Reshape: 0 keeps a size, -1 is what remains."""
        return self.constant(np.array(sizes, np.int64))

    def linear(self, inputs: str, weights: Mapping[str, Floats], name: str) -> str:
        """A linear layer over the last axis."""
        weight = self.constant(weights[f"{name}.weight"].T, f"{name}.weight")
        product = self.op("MatMul", [inputs, weight])
        return self.op("Add", [product, self.constant(weights[f"{name}.bias"], f"{name}.bias")])

    def layer_norm(self, inputs: str, weights: Mapping[str, Floats], name: str, epsilon: float) -> str:
        """A layer norm over the last axis."""
        scale, bias = (self.constant(weights[f"{name}.{part}"], f"{name}.{part}") for part in ("weight", "bias"))
        return self.op("LayerNormalization", [inputs, scale, bias], axis=-1, epsilon=epsilon)

    def model(self, answer: str, width: int) -> Any:
        """The finished and checked model."""
        import onnx
        from onnx import TensorProto, helper

        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in (CHANNELS[0], MASK)
        ]
        output = helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["rows", width])
        graph = helper.make_graph(self.nodes, "bert", inputs, [output], list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model
