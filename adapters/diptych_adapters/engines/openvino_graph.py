"""A part of a model run by OpenVINO on the CPU: converted from torch directly, and kept on disk."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import MissingExtra
from diptych.types import Floats
from diptych_adapters.engines import processor
from diptych_adapters.engines.batches import CHANNELS, MASK, Row, batches, feeds, input_names, padded
from diptych_adapters.engines.processor import beside_int8, threads

if TYPE_CHECKING:
    import torch


EDITION = 5  # of the conversion: raised when the same part gives another model
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
HIDDEN = -6e4  # added to the scores of masked tokens; every precision can represent it
PROBED = 1024  # tokens of a probe's batch: the inputs of all layers are held at once, a GiB with 24 layers
LONGEST = 512  # tokens of a text that a probe reads

Place: TypeAlias = tuple[str, int]  # an output of a node: the node's name, and which of its outputs


class OpenVinoGraph:
    """A compiled model. Threads may call it at once; each has a request of its own.

    Args:
        model: OpenVINO's.
        precision: of the arithmetic. A processor without it computes in float32, and `numerics` says so. With int8 it
            is that of what is not quantized, bfloat16 where the processor is fast in it.
    """

    def __init__(self, model: Any, *, precision: str) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": hint(precision),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads(),
        }
        self._compiled = openvino().Core().compile_model(model, "CPU", settings)
        inputs = [port.names for port in self._compiled.inputs]
        self._names = [next(name for name in (*CHANNELS, MASK) if name in names) for names in inputs]
        runs_in = str(self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        names_by_hint = {hint: name for name, hint in HINTS.items()}
        runs_as = "int8" if precision == "int8" else names_by_hint.get(runs_in, runs_in)
        self.numerics = f"openvino {runs_as} cpu"  # the precision that really runs
        self._requests = threading.local()

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The model's answers, float32 `[n, ...]`."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        answers = request.infer(feeds(self._names, inputs, mask), share_inputs=True)
        return np.array(answers[0], np.float32)


def hint(precision: str) -> str:
    """OpenVINO's name for the precision of the parts of such a model that are not quantised."""
    return HINTS[beside_int8() if precision == "int8" else precision]


def openvino() -> Any:
    """The package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import openvino as package
    except ImportError as error:
        raise MissingExtra(
            "backend 'openvino' is not installed", do="pip install 'diptych[openvino]'", got=str(error)
        ) from error
    return package


def cached_or_made(key: str, make: Callable[[], Any] | None) -> Any:
    """The cached model for `key`, else the one made now, which is then cached; None without `make`."""
    ov = openvino()
    folder = processor.cache_folder("openvino", EDITION, ov.__version__, key)
    if file := processor.cached_file(folder, "model.xml"):
        return ov.Core().read_model(file)
    if make is None:
        return None
    model = make()

    def write(path: Path) -> tuple[str, ...]:
        ov.save_model(model, path / "model.xml", compress_to_fp16=False)
        return "model.bin", "model.xml"

    processor.store(folder, write)
    return model


def converted(module: torch.nn.Module, *, typed: bool) -> Any:
    """The part in OpenVINO's form, for any number of rows and tokens; `typed`: it also takes token type ids.

    Calls the front end directly, since `openvino.convert_model` reports its use over the network.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    from diptych_adapters.pipelines.library import quiet

    ov = openvino()

    names = input_names(typed=typed)
    example = {name: torch.ones(2, 8, dtype=torch.int64) for name in names}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about constants; errors would show in the answers
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=example)
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    for port, name in zip(model.inputs, names, strict=True):
        port.get_node().set_element_type(ov.Type.i64)
        port.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
        port.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    with_finite_masks(model)
    return model


def with_finite_masks(model: Any) -> None:
    """Replace infinities in masks, of which OpenVINO makes NaN for a token that attends to nothing, such as padding."""
    from openvino import opset13 as ops

    for node in model.get_ordered_ops():
        if node.get_type_name() != "ScaledDotProductAttention" or node.get_input_size() < 4:
            continue
        if node.input_value(3).get_element_type() == openvino().Type.boolean:
            numbers = ops.select(node.input_value(3), *(ops.constant(np.float32(value)) for value in (0, HIDDEN)))
            node.input(3).replace_source_output(ops.convert_like(numbers, node.input_value(0)).output(0))
    model.validate_nodes_and_infer_types()


def place_of(output: Any) -> Place:
    """The position of an output, which is the same in a clone of the model."""
    return output.get_node().get_friendly_name(), output.get_index()


def layer_values(
    model: Any, places: Sequence[Place], rows: Sequence[Row], pad: int
) -> Iterator[tuple[list[NDArray[np.float32]], NDArray[np.bool_]]]:
    """The values at some places between layers, in float32, for each batch of rows; and which tokens are no padding.

    Args:
        model: of `converted`; it is not changed.
        places: outputs of its nodes.
        rows: token ids of texts; the longest are read first, and only the beginning of each.
        pad: the padding id.
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
    for batch in batches(lengths, PROBED):
        inputs, mask = padded([rows[index][:, :LONGEST] for index in batch], pad)
        answers = compiled(feeds(names, inputs, mask))
        yield [np.asarray(answers[index], np.float32) for index in range(len(places))], mask.astype(bool)
