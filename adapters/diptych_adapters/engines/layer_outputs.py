"""Values between the layers of a converted model while it reads texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_adapters.engines.batches import Budget, batches, padded
from diptych_adapters.engines.inputs import fed, input_names
from diptych_adapters.engines.openvino_graph import openvino
from diptych_adapters.engines.tokens import Row

Place = tuple[str, int]  # an output of a node: the node's name, and which of its outputs
TOKENS = 1024  # that are read together: what each layer reads of them is held at once, a GiB in a model of 24 layers
LONGEST = 512  # tokens of a text that are read


def place_of(output: Any) -> Place:
    """The position of an output, which is the same in a clone of the model."""
    return output.get_node().get_friendly_name(), output.get_index()


def probed(
    model: Any, places: Sequence[Place], rows: Sequence[Row], pad: int
) -> Iterator[tuple[list[NDArray[np.float32]], NDArray[np.bool_]]]:
    """For each batch of rows what is at the places, in float32, and which tokens are no padding, `[n, tokens]`.

    Args:
        model: of `openvino_graph.converted`; it is not changed.
        places: outputs of its nodes.
        rows: token ids of texts, the longest are read first, and of each its beginning.
        pad: the id that fills rows up.
    """
    ov = openvino()
    probe = model.clone()
    nodes = {node.get_friendly_name(): node for node in probe.get_ordered_ops()}
    outputs = [nodes[name].output(index) for name, index in places]
    compiled = ov.Core().compile_model(
        ov.Model(outputs, probe.get_parameters()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    names = input_names(typed=rows[0].shape[0] > 1)
    lengths = [min(row.shape[1], LONGEST) for row in rows]
    for _, chosen in batches(lengths, Budget((TOKENS,))):
        given, mask = padded([rows[place][:, :LONGEST] for place in chosen], pad)
        answers = compiled(fed(names, given, mask))
        yield [np.asarray(answers[place], np.float32) for place in range(len(places))], mask.astype(bool)
