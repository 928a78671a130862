"""int8 for OpenVINO: the linear layers of a converted model, quantized with ranges measured on texts.

Weights have a scale for each output, activations one for each layer, after smoothing: a channel with large values is
divided by a factor that its weights are multiplied by (Xiao et al., "SmoothQuant", https://arxiv.org/abs/2211.10438).
A layer whose output would still be off by more than `LOSS` keeps its precision. Done here because nncf, OpenVINO's own
tool, reports its use over the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.batches import padded
from diptych_adapters.engines.feeding import fed, input_names
from diptych_adapters.engines.openvino_graph import openvino
from diptych_adapters.engines.tokens import Row

SMOOTHING = 0.8  # the paper's alpha: 1 moves all of a channel's size into the weights
LOSS = 1e-3  # share of an output's energy that its error may have; MiniLM's worst layer that is quantized has 7e-4
ROWS = 8  # texts that are measured together
KEPT = 64  # tokens of them on which a layer's loss is measured
TINY = 1e-5


@dataclass(slots=True)
class Activations:
    """What goes into a layer: the least and largest of each channel, and some rows."""

    low: Floats
    high: Floats
    some: list[Floats] = field(default_factory=list)


def quantized(model: Any, rows: Sequence[Row], pad: int) -> Any:
    """A copy of an OpenVINO model whose linear layers compute in int8.

    Args:
        model: of `openvino_graph.converted`.
        rows: token ids of the texts whose ranges are taken, 100 or so of those that it will encode.
        pad: the id that fills rows up.
    """
    copy = model.clone()
    groups = _by_input(copy)
    measured = _measured(model, list(groups), rows, pad)
    for key, layers in groups.items():
        _quantize(layers, measured[key])
    copy.validate_nodes_and_infer_types()
    return copy


def _linear(model: Any) -> Iterator[Any]:
    """The multiplications with constant matrices."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and not node.get_attributes()["transpose_a"]:
            right = node.input_value(1).get_node()
            if right.get_type_name() == "Constant" and len(right.get_output_shape(0)) == 2:
                yield node


def _by_input(model: Any) -> dict[tuple[str, int], list[Any]]:
    """The linear layers by the output that they read, such as query, key and value."""
    groups: dict[tuple[str, int], list[Any]] = {}
    for node in _linear(model):
        source = node.input_value(0)
        groups.setdefault((source.get_node().get_friendly_name(), source.get_index()), []).append(node)
    return groups


def _measured(
    model: Any, keys: Sequence[tuple[str, int]], rows: Sequence[Row], pad: int
) -> dict[tuple[str, int], Activations]:
    ov = openvino()
    probe = model.clone()
    nodes = {node.get_friendly_name(): node for node in probe.get_ordered_ops()}
    outputs = [nodes[name].output(index) for name, index in keys]
    request = ov.Core().compile_model(
        ov.Model(outputs, probe.get_parameters()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found: dict[tuple[str, int], Activations] = {}
    names = input_names(typed=rows[0].shape[0] > 1)
    random = np.random.default_rng(0)
    for given, mask in _batches(rows, pad):
        answers = request(fed(names, given, mask))
        for place, key in enumerate(keys):
            values = answers[place]
            values = values[mask.astype(bool)] if values.ndim == 3 else values.reshape(-1, values.shape[-1])
            _note(found, key, np.asarray(values, np.float32), random)
    return found


def _batches(rows: Sequence[Row], pad: int) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    order = sorted(rows, key=lambda row: -row.shape[1])
    return (padded(order[start : start + ROWS], pad) for start in range(0, len(order), ROWS))


def _note(found: dict[tuple[str, int], Activations], key: tuple[str, int], values: Floats, random: Any) -> None:
    seen = found.setdefault(key, Activations(values.min(0), values.max(0)))
    seen.low, seen.high = np.minimum(seen.low, values.min(0)), np.maximum(seen.high, values.max(0))
    seen.some.append(values[random.integers(0, len(values), min(KEPT, len(values)))])


def _quantize(layers: Sequence[Any], measured: Activations) -> None:
    """Put quantization before and into layers that read the same activations, where it costs little."""
    from openvino import opset13 as ops

    matrices = [_matrix(node) for node in layers]
    scale = _smoothing(measured, matrices)
    low, high = min(0.0, float((measured.low / scale).min())), max(TINY, float((measured.high / scale).max()))
    if _loss(np.concatenate(measured.some), matrices, scale, low, high) > LOSS:
        return
    source = layers[0].input_value(0)
    factor = (1 / scale).reshape([1] * (len(source.get_partial_shape()) - 1) + [-1]).astype(np.float32)
    bounds = [ops.constant(np.float32(bound)) for bound in (low, high)]
    taken = ops.fake_quantize(ops.multiply(source, ops.constant(factor)), *bounds, *bounds, 256)
    for node, matrix in zip(layers, matrices, strict=True):
        weights = (matrix * scale).astype(np.float32)
        largest = np.maximum(np.abs(weights).max(1, keepdims=True), TINY)
        ends = [ops.constant(end) for end in (-largest, largest)]
        product = ops.matmul(taken, ops.fake_quantize(ops.constant(weights), *ends, *ends, 255), False, True)
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(product.output(0))


def _matrix(node: Any) -> Floats:
    """The weights of a layer, float32 `[outputs, inputs]`."""
    matrix = np.asarray(node.input_value(1).get_node().get_data(), np.float32)
    return matrix if node.get_attributes()["transpose_b"] else matrix.T


def _smoothing(measured: Activations, matrices: Sequence[Floats]) -> Floats:
    """The divisor of each channel, 1 in the geometric mean."""
    values = np.maximum(np.maximum(np.abs(measured.low), np.abs(measured.high)), TINY)
    weights = np.maximum(np.max([np.abs(matrix).max(0) for matrix in matrices], axis=0), TINY)
    scale = values**SMOOTHING / weights ** (1 - SMOOTHING)
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float32)


def _loss(values: Floats, matrices: Sequence[Floats], scale: Floats, low: float, high: float) -> float:
    """The error's share of the energy of the outputs, the worst of the layers."""
    step = (high - low) / 255
    offset = np.round(low / step)
    taken = np.clip(np.round(values / scale / step), offset, offset + 255) * step
    losses = []
    for matrix in matrices:
        weights = matrix * scale
        unit = np.maximum(np.abs(weights).max(1, keepdims=True), TINY) / 127
        exact = values @ matrix.T
        losses.append(float(((taken @ (np.round(weights / unit) * unit).T - exact) ** 2).sum() / (exact**2).sum()))
    return max(losses)
