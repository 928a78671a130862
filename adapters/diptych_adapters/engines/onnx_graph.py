"""A part of a model run by ONNX Runtime on the CPU: exported from torch and kept on disk, or read from a file."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import MissingExtra
from diptych.types import Floats
from diptych_adapters.engines import processor
from diptych_adapters.engines.batches import feeds, input_names
from diptych_adapters.engines.processor import threads

if TYPE_CHECKING:
    import torch

EDITION = 1  # of the export
OPSET = 17


class OnnxGraph:
    """A session of ONNX Runtime. Threads may call it at once.

    Args:
        model: its file, or the file's bytes.
    """

    def __init__(self, model: Path | bytes) -> None:
        runtime = _installed("onnxruntime")
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = threads()
        settings.log_severity_level = 3
        # Its threads would spin between two operations. Beside other work, or a caller of low priority as in a
        # back-fill, they only take the processor from it: 100 documents cost 9.5 processor seconds in place of 2.2.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model_file = model if isinstance(model, bytes) else str(model)
        self._session = runtime.InferenceSession(model_file, settings, providers=["CPUExecutionProvider"])
        self._names = [port.name for port in self._session.get_inputs()]
        self.numerics = "onnx float32 cpu"

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The model's answers, float32 `[n, ...]`."""
        answers = self._session.run(None, feeds(self._names, inputs, mask))
        return np.asarray(answers[0], np.float32)


def cached_or_made(key: str, make: Callable[[], bytes] | None) -> Path | bytes | None:
    """The cached file for `key`, else the bytes of the model made now, which are then cached; None without `make`."""
    folder = processor.cache_folder("onnx", EDITION, processor.version_of("torch"), key)
    if (file := processor.cached_file(folder, "model.onnx")) or make is None:
        return file
    _installed("onnx")
    model = make()

    def write(path: Path) -> tuple[str, ...]:
        (path / "model.onnx").write_bytes(model)
        return ("model.onnx",)

    processor.store(folder, write)
    return model


def exported(module: torch.nn.Module, *, typed: bool, by_token: bool) -> bytes:
    """The ONNX model of a part; `typed`: it also takes token type ids, `by_token`: it gives a vector for each token."""
    import torch

    from diptych_adapters.pipelines.library import quiet

    names = input_names(typed=typed)
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    axes = {name: {0: "rows", 1: "tokens"} for name in names}
    axes["answer"] = {0: "rows", 1: "tokens"} if by_token else {0: "rows"}
    with tempfile.TemporaryDirectory() as folder, quiet(), warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of values it treats as constants; errors show in the answers
        file = Path(folder, "model.onnx")
        torch.onnx.export(
            module.eval(),
            example,
            file,
            input_names=list(names),
            output_names=["answer"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
        return file.read_bytes()


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            "backend 'onnx' is not installed", do="pip install 'diptych[onnx]'", got=str(error)
        ) from error
