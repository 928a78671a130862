"""A part of a model as a list of PyTorch operators, run without the libraries that define the model.

Importing transformers' model classes takes several times as long as importing torch. `torch_export` lists the operators
that a part executes and keeps the list in the user's cache; later processes run it with torch alone.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from diptych.types import Floats
from diptych_adapters.engines import model_cache

EDITION = 1  # of the file
LIST, TENSORS = "program.json", "tensors.json"
ARITHMETIC = ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem", "eq", "ne", "lt", "le", "gt", "ge")


class TorchProgram:
    """Runs a list of operators on the CPU. Threads may call it at once.

    Args:
        content: the list as `torch_export` writes it: `inputs` and `output` name values, and each of `steps` has the
            name of its value, its operator, arguments, named arguments, and the values that no later step reads.
            `numerics` are backend, precision and device.
        constants: weights and buffers by the names that steps read.
    """

    def __init__(self, content: Mapping[str, Any], constants: Mapping[str, torch.Tensor]) -> None:
        self._inputs, self._output, self._constants = content["inputs"], content["output"], constants
        self._numerics: str = content["numerics"]
        self._steps = [
            (name, _operator(function), _reader(arguments), _reader(options), unread)
            for name, function, arguments, options, unread in content["steps"]
        ]

    @classmethod
    def read(cls, file: Path) -> Self:
        """The program from the list in `file`."""
        content = json.loads(file.read_bytes())
        return cls(content, _constants(content["constants"], file.parent))

    @property
    def numerics(self) -> str:
        """Backend, precision and device."""
        return self._numerics

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The part's answers, float32 `[n, ...]`."""
        arrays = map(torch.from_numpy, (inputs[0], mask, *inputs[1:]))
        with torch.inference_mode():
            values: dict[str, Any] = {**self._constants, **dict(zip(self._inputs, arrays, strict=True))}
            for name, function, arguments, options, unread in self._steps:
                values[name] = function(*arguments(values), **options(values))
                for unread_name in unread:
                    del values[unread_name]
            return np.asarray(values[self._output].float().numpy(), np.float32)


def cached_list(key: str) -> Path | None:
    """The cached list for `key`, None if there is none."""
    return model_cache.cached_file(folder_of(key), LIST)


def folder_of(key: str) -> Path:
    """The cache folder for the part with this key."""
    return model_cache.cache_folder("torch", EDITION, version("torch"), key)


def tensors(key: str) -> dict[str, torch.Tensor] | None:
    """The cached tensors for `key`, None if there are none."""
    file = model_cache.cached_file(folder_of(key), TENSORS)
    return _constants(json.loads(file.read_bytes()), file.parent) if file else None


def _operator(name: str) -> Callable[..., Any]:
    """An operator by its name: `aten.linear.default`, or `+`-like ones of sizes, such as `operator.mul`."""
    space, *path = name.split(".")
    if space == "operator" and path[0] in ARITHMETIC:
        return getattr(operator, path[0])  # type: ignore[no-any-return]
    if space != "aten":
        raise ValueError(f"unknown operator {name}")
    target: Any = torch.ops.aten
    for part in path:
        target = getattr(target, part)
    function: Callable[..., Any] = target
    return function


def _reader(spelt: Any) -> Callable[[Mapping[str, Any]], Any]:
    """A function from the values so far to the arguments that a step gives.

    In the list, `{"value": NAME}` stands for a value, `{"torch": "float32"}` for an attribute of torch,
    `{"device": "cpu"}` for a device, and `{"of": {...}}` for a mapping.
    """
    if isinstance(spelt, list):
        parts = [_reader(item) for item in spelt]
        return lambda values: [part(values) for part in parts]
    if not isinstance(spelt, dict):
        return lambda values: spelt
    kind, content = next(iter(spelt.items()))
    if kind == "value":
        return lambda values: values[content]
    if kind == "of":
        readers = {name: _reader(item) for name, item in content.items()}
        return lambda values: {name: reader(values) for name, reader in readers.items()}
    constant = torch.device(content) if kind == "device" else getattr(torch, content)
    return lambda values: constant


def _constants(placed: Mapping[str, tuple[str, str]], folder: Path) -> dict[str, torch.Tensor]:
    """The tensors by their names in the list; each is in a safetensors file, named from `folder`, under a key."""
    weights: dict[str, torch.Tensor] = {}
    for file in {file for file, _ in placed.values()}:
        with safe_open(folder / file, "pt") as tensors:
            for name, (source, key) in placed.items():
                if source == file:
                    weights[name] = tensors.get_tensor(key).clone()  # the file may be replaced while this process runs
    return weights
