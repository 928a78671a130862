"""A sentence-transformers pipeline run by OpenVINO on the CPU: converted from torch directly, and kept on disk."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray

from diptych.errors import MissingExtra
from diptych.types import Floats
from diptych_adapters.engines.torch_graph import WholePipeline
from diptych_adapters.pipelines import quiet

EDITION = 1  # of the conversion: counted up when the same pipeline gives another model
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
NAMES = ("input_ids", "attention_mask")


class OpenVinoGraph:
    """A compiled pipeline. Threads may call it at once; each has a request of its own.

    Args:
        model: the torch pipeline, in float32.
        precision: of the arithmetic. A processor without it computes in float32, and `numerics` says so.
        folder: where the converted model is kept; None converts at each start.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """

    def __init__(self, model: Any, *, precision: str, folder: Path | None) -> None:
        ov = openvino()
        settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        core = ov.Core()
        self._compiled = core.compile_model(_converted(ov, core, model, folder), "CPU", settings)
        runs_in = str(self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        known = {hint: name for name, hint in HINTS.items()}
        self._numerics = f"openvino {known.get(runs_in, runs_in)} cpu"
        self._requests = threading.local()

    @property
    def numerics(self) -> str:
        """Backend, precision that really runs, and device."""
        return self._numerics

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Vectors, float32 `[n, width]`."""
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._compiled.create_infer_request()
        answers = request.infer({NAMES[0]: ids, NAMES[1]: mask}, share_inputs=True)
        return np.array(answers[0], np.float32)


def kept_at(key: str) -> Path:
    """The folder of a converted pipeline in the user's cache; `key` tells pipelines apart."""
    digest = hashlib.sha256(f"{EDITION} {openvino().__version__} {key}".encode()).hexdigest()[:24]
    return Path(platformdirs.user_cache_path("diptych", appauthor=False)) / "openvino" / digest


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


def _converted(ov: Any, core: Any, model: Any, folder: Path | None) -> Any:
    """OpenVINO's form of the pipeline, read from the folder when it was kept there."""
    file = folder / "model.xml" if folder else None
    if file is not None and file.is_file() and file.with_suffix(".bin").is_file():
        return core.read_model(file)
    converted = _convert(ov, WholePipeline(model).eval())
    if file is not None:
        _keep(ov, converted, file)
    return converted


def _convert(ov: Any, whole: torch.nn.Module) -> Any:
    """The module in OpenVINO's form, for any number of rows and tokens.

    By the front end itself: `openvino.convert_model` does the same, and reports its use over the network.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = {name: torch.ones(2, 8, dtype=torch.int64) for name in NAMES}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing says what it takes for constant; what is wrong shows in the vectors
        decoder = TorchScriptPythonDecoder(whole, example_input=example)
    frontend = FrontEndManager().load_by_framework("pytorch")
    converted = frontend.convert(frontend.load(decoder))
    for place, name in zip(converted.inputs, NAMES, strict=True):
        place.get_node().set_element_type(ov.Type.i64)
        place.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
        place.get_tensor().set_names({name})
    converted.validate_nodes_and_infer_types()
    return converted


def _keep(ov: Any, converted: Any, file: Path) -> None:
    """Write beside and put in place, weights first, so that what is there is whole; what cannot be kept is no error."""
    beside = file.with_name(f"{os.getpid()}-{threading.get_ident()}.xml")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        ov.save_model(converted, beside, compress_to_fp16=False)
        beside.with_suffix(".bin").replace(file.with_suffix(".bin"))
        beside.replace(file)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"the converted model is not kept in {file.parent}: {error}", stacklevel=2)
