"""Reads a dense BERT encoder from its files, for use without PyTorch.

`prepared` keeps what sentence-transformers told of a model. For the commonest kind of encoder the files say the same: a
BERT transformer, then mean, CLS or max pooling, perhaps normalisation. `engines.bert_graph` writes the graph. Vectors
and fingerprints are those of PyTorch, so a collection that was filled with it can be queried without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diptych.types import Floats
from diptych_adapters.engines.batches import CHANNELS, MASK, TokenizerData
from diptych_adapters.engines.openvino_graph import HIDDEN
from diptych_adapters.engines.processor import have
from diptych_adapters.model_options import SentenceTransformersOptions
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import check_length
from diptych_adapters.pipelines.pipeline import Prepared

OPSET = 20  # the first with Gelu
IR_VERSION = 9
PREFIXES = ("", "bert.")
UNREAD = ("pooler.", "cls.", "embeddings.position_ids")  # weights of heads that an encoder does not use, and counters
ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}

EDITION = 1  # of the graph: raised when the same files give another model
TYPES = "embeddings.token_type_embeddings.weight"
POOLINGS = ("mean", "cls", "max")
PACKAGES = {"openvino": ("openvino", "onnx"), "onnx": ("onnxruntime", "onnx")}
TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
SHOWN = 8  # keys that an error names


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BertFiles:
    """A BERT encoder of sentence-transformers, as its folder describes it.

    Args:
        folder: of the model.
        shape: of the transformer.
        tokenizer: the model's.
        pooling: of token vectors to one.
        normalize: a last module makes vectors unit length.
        max_length: tokens that are read of a text.
    """

    folder: ModelFolder
    shape: Shape
    tokenizer: TokenizerData
    pooling: str
    normalize: bool
    max_length: int

    @property
    def steps(self) -> list[str]:
        """The steps after the transformer, in the names of `pipeline_steps`."""
        return [f"pooling({self.pooling})", *["normalize"] * self.normalize]

    def onnx(self) -> bytes:
        """The encoder as an ONNX model.

        Raises:
            ModelError: weights are missing, too many, of another shape or type.
        """
        model = bert_model(self.shape, self._weights(), self.pooling, normalize=self.normalize)
        return bytes(model.SerializeToString())

    def prepared(self, backend: str, digests: fingerprints.Digests, facts: Mapping[str, Any]) -> Prepared:
        """The facts needed to run the encoder.

        Args:
            backend: openvino or onnx.
            digests: of the folder.
            facts: those that the adapter would read from the library.
        """
        config = fingerprints.file_sha256(self.folder.path / "config.json")
        key_parts = [f"bert {EDITION}", digests.weights, digests.tokenizer, config, *self.steps, str(self.max_length)]
        return Prepared(
            backend=backend,
            key=" ".join(key_parts),
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            typed=False,
            digests=digests,
            steps=self.steps,
            facts=facts,
        )

    def _weights(self) -> dict[str, Floats]:
        from safetensors.numpy import load_file

        stored = load_file(self.folder.path / "model.safetensors")
        prefix = next(p for p in reversed(PREFIXES) if p == "" or any(name.startswith(p) for name in stored))
        weights = {name.removeprefix(prefix): values for name, values in stored.items()}
        shapes = expected_weights(self.shape)
        types = weights.get(TYPES, np.zeros((0, 0)))
        shapes[TYPES] = (max(1, types.shape[0]), self.shape.width)
        wrong = [f"{name} missing" for name in shapes if name not in weights]
        wrong += [
            f"{name} {list(weights[name].shape)} for {list(size)}"
            for name, size in shapes.items()
            if name in weights and weights[name].shape != size
        ]
        wrong += [f"{name} unexpected" for name in weights if name not in shapes and not name.startswith(UNREAD)]
        if wrong:
            raise ModelError(
                f"the weights of model {self.folder.name!r} do not match its config.json",
                where=self.folder.path / "model.safetensors",
                got=", ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""),
                do="save the model again, or pip install 'diptych[torch]' if it is a variant of BERT",
            )
        return {name: np.asarray(weights[name], np.float32) for name in shapes}


def backend_without_torch(options: SentenceTransformersOptions) -> str:
    """The backend for a model read from files: OpenVINO or ONNX Runtime, in float32; "" if none is available."""
    if options.precision not in (None, "float32") or options.trust_remote_code:
        return ""
    any_backend = options.backend in ("auto", "torch")  # torch is the default
    available = [
        name for name, packages in PACKAGES.items() if any_backend or name == options.backend if have(*packages)
    ]
    return available[0] if available else ""


def read_bert(folder: ModelFolder, options: SentenceTransformersOptions) -> BertFiles | None:
    """The encoder in a folder; None if its files have settings that this module does not support.

    Raises:
        ModelError: `max_length` is more than the model can read.
    """
    modules = fingerprints.read_json_list(folder.path / "modules.json")
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0]["path"]:
        return None
    shape, pooling = bert_shape(folder.config()), _pooling(folder.config(f"{modules[1]['path']}/config.json"))
    settings = folder.config("sentence_bert_config.json")
    # sentence_bert_config.json sets only a length and the last layer's token vectors, and tokenizer.json describes the
    # tokenizer completely, with padding on the right.
    default: dict[str, Any] = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    default |= {"modality_config": TEXT_ONLY, "do_lower_case": False}
    has_plain_settings = all(name == "max_seq_length" or own == default.get(name) for name, own in settings.items())
    tokens = folder.config("tokenizer_config.json")
    padded_right = tokens.get("padding_side", "right") == "right" and isinstance(tokens.get("pad_token"), str)
    has_tokens = (
        padded_right and (folder.path / "tokenizer.json").is_file() and not fingerprints.overridden(folder.path)
    )
    if shape is None or pooling is None or not has_tokens or not has_plain_settings:
        return None
    own_length = settings.get("max_seq_length") or min(
        int(tokens.get("model_max_length") or shape.positions), shape.positions
    )
    check_length(options.max_length, shape.positions, folder.name)
    from tokenizers import Tokenizer

    text = (folder.path / "tokenizer.json").read_text("utf-8")
    pad = Tokenizer.from_str(text).token_to_id(tokens["pad_token"])
    if pad is None:
        return None
    tokenizer = TokenizerData(text, pad, "right")
    return BertFiles(
        folder=folder,
        shape=shape,
        tokenizer=tokenizer,
        pooling=pooling,
        normalize=len(kinds) == 3,
        max_length=options.max_length or int(own_length),
    )


def _pooling(config: Mapping[str, Any]) -> str | None:
    """The pooling in a module's config.json, in its old or new form; None if the graph does not have it."""
    flags = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [name for key, name in flags.items() if config.get(key)])
    supported = len(modes) == 1 and modes[0] in POOLINGS and config.get("include_prompt", True)
    return str(modes[0]) if supported else None


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
