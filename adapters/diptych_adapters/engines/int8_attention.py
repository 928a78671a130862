"""int8 for the scores of attention: products of queries and keys, quantized with ranges measured on texts.

Queries and keys have one scale each, from the largest number seen, and are quantized where the linear layers give them,
so that one byte a number is written and moved. The weights that softmax makes of the scores, and the values, stay as
they are: tests/benchmarks/compare_int8.py shows what each costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.openvino_graph import layer_values, place_of
from diptych_adapters.engines.tokens import Row

ERROR = 0.1  # largest root mean square error of a score; the relative error of its weight is about as large
KEPT = 64  # tokens of a text on whose scores the error is measured
TEXTS = 32  # whose tokens are kept for it
MOVES = ("Reshape", "Transpose")
LEVELS = 255  # symmetric


@dataclass(slots=True)
class AttentionSide:
    """The queries of a layer, or its keys: their largest number, and some of them, each `[heads, tokens, width]`.

    `odd` is set if their shape is not `[n, heads, tokens, width]`.
    """

    largest: float = 0.0
    some: list[Floats] = field(default_factory=list)
    odd: bool = False

    def note(self, values: Floats, mask: NDArray[np.bool_]) -> None:
        """Record the queries or keys of some texts; `mask` marks tokens that are no padding, `[n, tokens]`."""
        if values.ndim != 4 or (len(values), values.shape[2]) != mask.shape:
            self.odd = True
            return
        for text, tokens in zip(values, mask, strict=True):
            self.largest = max(self.largest, float(np.abs(text[:, tokens]).max()))
            if len(self.some) < TEXTS:
                self.some.append(text[:, tokens][:, :KEPT].copy())

    def quantized(self, values: Floats) -> Floats:
        """The numbers after a round trip through int8."""
        unit = self.largest / (LEVELS // 2)
        return np.asarray(np.round(values / unit) * unit, np.float32)


def quantize_scores(model: Any, rows: Sequence[Row], pad: int) -> None:
    """Quantise the products of queries and keys to int8 where that costs little accuracy.

    Args:
        model: of `openvino_graph.converted`; it is changed.
        rows: token ids of texts.
        pad: the padding id.
    """
    nodes = list(_attentions(model))
    if not nodes:
        return
    for node, (queries, keys) in zip(nodes, _measured_sides(model, nodes, rows, pad), strict=True):
        scale = _scale(node)
        if _alike(queries, keys) and _error(queries, keys, scale) <= ERROR:
            _quantize(node, queries.largest, keys.largest, scale)
    model.validate_nodes_and_infer_types()


def _attentions(model: Any) -> Iterator[Any]:
    """The attentions with a mask and a known scale that are not causal."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "ScaledDotProductAttention" or node.get_attributes()["causal"]:
            continue
        if node.get_input_size() in (4, 5) and _scale(node):
            yield node


def _scale(node: Any) -> float:
    """The factor of an attention's scores; 0 if only a run can tell."""
    if node.get_input_size() < 5:
        width = node.input_value(0).get_partial_shape()[-1]
        return float(width.get_length() ** -0.5) if width.is_static else 0.0
    constant = node.input_value(4).get_node()
    while constant.get_type_name() == "Convert":
        constant = constant.input_value(0).get_node()
    return float(constant.get_data()) if constant.get_type_name() == "Constant" else 0.0


def _measured_sides(
    model: Any, nodes: Sequence[Any], rows: Sequence[Row], pad: int
) -> list[tuple[AttentionSide, AttentionSide]]:
    sides = [AttentionSide() for _ in range(2 * len(nodes))]
    places = [place_of(node.input_value(port)) for node in nodes for port in (0, 1)]
    for answers, mask in layer_values(model, places, rows, pad):
        for side, values in zip(sides, answers, strict=True):
            side.note(values, mask)
    return list(zip(sides[::2], sides[1::2], strict=True))


def _alike(queries: AttentionSide, keys: AttentionSide) -> bool:
    """Whether queries and keys correspond, and neither are all 0."""
    if queries.odd or keys.odd or not queries.largest or not keys.largest:
        return False
    return all(left.shape == right.shape for left, right in zip(queries.some, keys.some, strict=True))


def _error(queries: AttentionSide, keys: AttentionSide, scale: float) -> float:
    """The root mean square error of the scores."""
    squares = []
    for left, right in zip(queries.some, keys.some, strict=True):
        off = queries.quantized(left) @ keys.quantized(right).swapaxes(1, 2) - left @ right.swapaxes(1, 2)
        squares.append(float((off**2).mean()))
    return scale * float(np.sqrt(np.mean(squares)))


def _quantize(node: Any, queries: float, keys: float, scale: float) -> None:
    """Replace an attention by its products, the first of them in int8; the scale is applied to the queries."""
    from openvino import opset13 as ops

    _before_moves(node, 0, queries, queries * scale)
    _before_moves(node, 1, keys, keys)
    query, key, value, mask = (node.input_value(port) for port in range(4))
    weights = ops.softmax(ops.add(ops.matmul(query, key, False, True), mask), -1)
    answer = ops.matmul(weights, value, False, False)
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(answer.output(0))


def _before_moves(node: Any, port: int, largest: float, scaled: float) -> None:
    """Quantize an input before it is split into heads: numbers up to `largest` become numbers up to `scaled`."""
    from openvino import opset13 as ops

    while _moved_for_one(node.input_value(port)):
        node, port = node.input_value(port).get_node(), 0
    ends = [ops.constant(np.float32(end)) for end in (-largest, largest, -scaled, scaled)]
    node.input(port).replace_source_output(ops.fake_quantize(node.input_value(port), *ends, LEVELS).output(0))


def _moved_for_one(output: Any) -> bool:
    """Whether an output is only reshaped or transposed, for a single reader besides those of its shape."""
    readers = [reader.get_node().get_type_name() for reader in output.get_target_inputs()]
    return output.get_node().get_type_name() in MOVES and len(readers) - readers.count("ShapeOf") == 1
