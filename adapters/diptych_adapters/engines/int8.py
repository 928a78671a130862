"""int8 for OpenVINO: the linear layers of a converted model, quantized with ranges measured on texts.

Weights have a scale for each output, activations one for each layer, after smoothing: a channel with large values is
divided by a factor that its weights are multiplied by (Xiao et al., "SmoothQuant", https://arxiv.org/abs/2211.10438).
Where the output would still be off by more than `LOSS`, the few channels with the largest values keep their precision
beside the others (Dettmers et al., "LLM.int8()", https://arxiv.org/abs/2208.07339), and if that is not enough, the
layer does. Done here because nncf, OpenVINO's own tool, reports its use over the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.batches import Row
from diptych_adapters.engines.openvino_graph import Place, layer_values, place_of

SMOOTHING = 0.8  # the paper's alpha: 1 moves all of a channel's size into the weights
LOSS = 1e-3  # share of an output's energy that its error may have
APART = (0, 1, 2, 4, 8)  # numbers of channels that may keep their precision; the smallest that suffices is taken
KEPT = 8  # tokens of a text on which a layer's loss is measured
TINY = 1e-5


# Texts of many kinds and lengths on which ranges are measured: once for a model, whatever the collection holds.
_LONG = (
    "The museum keeps letters, maps and instruments of the expedition, among them a sextant that still works. "
    "Visitors may read the diaries in facsimile; the originals are shown once a year, in dim light. "
    "A second room tells of the ships: how they were built, who sailed them, and what became of each. "
)
GENERAL = (
    "a",
    "museum",
    "How long do boiled eggs keep?",
    "cheap flights to Lisbon in March with one bag",
    "Error 0x80070057: the parameter is incorrect",
    "SELECT name, price FROM items WHERE price < 9.99 ORDER BY name;",
    "https://example.org/a/b?c=1&d=two#three",
    "Die Brücke wurde 1932 erbaut; heute fahren darüber nur noch Straßenbahnen.",
    "La fièvre a baissé, mais la toux persiste depuis trois jours.",
    "Сколько стоит билет до вокзала?",
    "明日の天気は晴れ、最高気温は二十五度です。",
    "0.25 mg twice daily, 14 days; AUC 0.91 (95% CI 0.88-0.94), p < .001",
    "WARRANTY DISCLAIMED. NO LIABILITY FOR INCIDENTAL OR CONSEQUENTIAL DAMAGES",
    "tick " * 60,
    _LONG,
    _LONG * 5,
)


@dataclass(slots=True)
class Activations:
    """The inputs of a layer: minimum and maximum of each channel, and some rows."""

    low: Floats
    high: Floats
    some: list[Floats] = field(default_factory=list)

    def without(self, channels: NDArray[np.intp]) -> Activations:
        """The same with an empty range for these channels."""
        low, high = self.low.copy(), self.high.copy()
        low[channels] = high[channels] = 0
        return Activations(low, high, self.some)


@dataclass(frozen=True, slots=True)
class QuantizationPlan:
    """How layers that read the same activations are quantized.

    Args:
        scale: the divisor of each channel.
        low: the lower end of the quantized range, after the division.
        high: its upper end.
        apart: channels that are left out of int8 and keep their precision.
    """

    scale: Floats
    low: float
    high: float
    apart: NDArray[np.intp]


def quantized(model: Any, rows: Sequence[Row], pad: int) -> Any:
    """A copy of an OpenVINO model whose linear layers compute in int8.

    Args:
        model: of `openvino_graph.converted`.
        rows: token ids of the texts on which ranges are measured, about 100 of those that it will encode.
        pad: the padding id.
    """
    copy = model.clone()
    groups = _by_input(copy)
    activations = _activations(model, list(groups), rows, pad)
    for key, layers in groups.items():
        matrices = [_matrix(node) for node in layers]
        if plan := _plan(activations[key], matrices):
            _quantize(layers, matrices, plan)
    copy.validate_nodes_and_infer_types()
    return copy


def _linear(model: Any) -> Iterator[Any]:
    """The multiplications with constant matrices."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and not node.get_attributes()["transpose_a"]:
            right = node.input_value(1).get_node()
            if right.get_type_name() == "Constant" and len(right.get_output_shape(0)) == 2:
                yield node


def _by_input(model: Any) -> dict[Place, list[Any]]:
    """The linear layers grouped by the output they read, such as query, key and value."""
    groups: dict[Place, list[Any]] = {}
    for node in _linear(model):
        groups.setdefault(place_of(node.input_value(0)), []).append(node)
    return groups


def _activations(model: Any, places: Sequence[Place], rows: Sequence[Row], pad: int) -> dict[Place, Activations]:
    activations: dict[Place, Activations] = {}
    random = np.random.default_rng(0)
    for answers, mask in layer_values(model, places, rows, pad):
        for place, values in zip(places, answers, strict=True):
            of_tokens = values.ndim == 3 and values.shape[:2] == mask.shape  # else of rows, or of places rows share
            real = values[mask] if of_tokens else values.reshape(-1, values.shape[-1])
            ranges = activations.setdefault(place, Activations(real.min(0), real.max(0)))
            ranges.low, ranges.high = np.minimum(ranges.low, real.min(0)), np.maximum(ranges.high, real.max(0))
            ranges.some.append(real[random.integers(0, len(real), min(KEPT * len(mask), len(real)))])
    return activations


def _plan(activations: Activations, matrices: Sequence[Floats]) -> QuantizationPlan | None:
    """The plan that leaves out the fewest channels with a loss of at most `LOSS`; None if there is none."""
    scale = _smoothing(activations, matrices)
    order = np.argsort(-np.maximum(np.abs(activations.low), np.abs(activations.high)) / scale)
    values = np.concatenate(activations.some)
    for count in APART:
        apart = np.sort(order[:count])
        plan = _plan_without(apart, activations, matrices)
        if _loss(values, matrices, plan) <= LOSS:
            return plan
    return None


def _plan_without(apart: NDArray[np.intp], activations: Activations, matrices: Sequence[Floats]) -> QuantizationPlan:
    narrowed = activations.without(apart)
    scale = _smoothing(narrowed, [_cleared(matrix, apart) for matrix in matrices])
    low, high = min(0.0, float((narrowed.low / scale).min())), max(TINY, float((narrowed.high / scale).max()))
    return QuantizationPlan(scale, low, high, apart)


def _cleared(matrix: Floats, channels: NDArray[np.intp]) -> Floats:
    """A copy of the weights with these channels set to zero."""
    copy = matrix.copy()
    copy[:, channels] = 0
    return copy


def _quantize(layers: Sequence[Any], matrices: Sequence[Floats], plan: QuantizationPlan) -> None:
    """Quantize the shared input and the weights of layers that read the same activations."""
    from openvino import opset13 as ops

    source = layers[0].input_value(0)
    factor = (1 / plan.scale).reshape([1] * (len(source.get_partial_shape()) - 1) + [-1]).astype(np.float32)
    bounds = [ops.constant(np.float32(bound)) for bound in (plan.low, plan.high)]
    quantized_input = ops.fake_quantize(ops.multiply(source, ops.constant(factor)), *bounds, *bounds, 256)
    for node, matrix in zip(layers, matrices, strict=True):
        weights = (_cleared(matrix, plan.apart) * plan.scale).astype(np.float32)
        largest = np.maximum(np.abs(weights).max(1, keepdims=True), TINY)
        ends = [ops.constant(end) for end in (-largest, largest)]
        product = ops.matmul(quantized_input, ops.fake_quantize(ops.constant(weights), *ends, *ends, 255), False, True)
        readers = node.output(0).get_target_inputs()
        if len(plan.apart):
            separate = ops.gather(source, ops.constant(plan.apart.astype(np.int64)), ops.constant(np.int64(-1)))
            product = ops.add(product, ops.matmul(separate, ops.constant(matrix[:, plan.apart]), False, True))
        for reader in readers:
            reader.replace_source_output(product.output(0))


def _matrix(node: Any) -> Floats:
    """The weights of a layer, float32 `[outputs, inputs]`."""
    matrix = np.asarray(node.input_value(1).get_node().get_data(), np.float32)
    return matrix if node.get_attributes()["transpose_b"] else matrix.T


def _smoothing(activations: Activations, matrices: Sequence[Floats]) -> Floats:
    """The divisor of each channel, 1 in the geometric mean."""
    values = np.maximum(np.maximum(np.abs(activations.low), np.abs(activations.high)), TINY)
    weights = np.maximum(np.max([np.abs(matrix).max(0) for matrix in matrices], axis=0), TINY)
    scale = values**SMOOTHING / weights ** (1 - SMOOTHING)
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float32)


def _loss(values: Floats, matrices: Sequence[Floats], plan: QuantizationPlan) -> float:
    """The error's share of the energy of the outputs, for the worst of the layers."""
    step = (plan.high - plan.low) / 255
    offset = np.round(plan.low / step)
    rounded = np.clip(np.round(values / plan.scale / step), offset, offset + 255) * step
    losses = []
    for matrix in matrices:
        reduced = _cleared(matrix, plan.apart)
        weights = reduced * plan.scale
        unit = np.maximum(np.abs(weights).max(1, keepdims=True), TINY) / 127
        error = rounded @ (np.round(weights / unit) * unit).T - values @ reduced.T
        losses.append(float((error**2).sum() / max(TINY, float(((values @ matrix.T) ** 2).sum()))))
    return max(losses)
