"""Lists the operators that a part of a model executes, for `TorchProgram`, and keeps the list in the user's cache.

Weights that the model's own safetensors files hold are read from there; only the others are kept beside the list.
"""

from __future__ import annotations

import json
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch.fx import GraphModule, Node

from diptych.types import Floats
from diptych_adapters.engines import processor
from diptych_adapters.engines.backend import Job
from diptych_adapters.engines.batches import input_names, padded
from diptych_adapters.engines.torch_graph import TorchGraph

EDITION = 1  # of the file
LIST, TENSORS = "program.json", "tensors.json"
ARITHMETIC = ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem", "eq", "ne", "lt", "le", "gt", "ge")

CONSTANTS = "constants.safetensors"
CHECKS = ("aten._assert", "aten.sym_constrain")  # operators that compute nothing
INLINED = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}  # settings before the graph, of no effect here
OF_TORCH = (torch.dtype, torch.layout, torch.memory_format)


def cache_program(job: Job, sources: Iterable[Path]) -> bool:
    """List a part's operators, and cache the list if it reproduces the part's answers exactly.

    Args:
        job: with the part, on the CPU.
        sources: safetensors files of the model.

    Returns:
        Whether it is kept. A part that `torch.export` cannot list for any number of tokens is not.
    """
    try:
        program = _exported(job.module.eval(), typed=job.typed)
        listing = _Listing(program, job.numerics)
        tensors: dict[str, Any] = {**program.state_dict, **program.constants}
        constants = {name: tensors[name].detach() for name in sorted(listing.constants)}
        rows = job.tokens.rows(job.trial)
        trials = [padded(some, job.tokens.pad) for some in (*([row] for row in rows), rows)]  # alone, and together
        listed, graph = TorchProgram(listing.content, constants), TorchGraph(job.module, job.numerics)
        if not all(np.array_equal(listed(*trial), graph(*trial)) for trial in trials):
            return False
    except Exception:  # torch.export raises errors of many kinds for what it cannot list
        return False

    def write(path: Path) -> tuple[str, ...]:
        placed = _placed(constants, path / CONSTANTS, sources)
        (path / LIST).write_text(json.dumps({**listing.content, "constants": placed}), "utf-8")
        return (CONSTANTS, LIST) if (path / CONSTANTS).exists() else (LIST,)

    processor.store(folder_of(job.key), write)
    return cached_list(job.key) is not None


def cache_tensors(key: str, tensors: dict[str, torch.Tensor], sources: Iterable[Path]) -> None:
    """Cache tensors, or their location if the model's files contain them."""

    def write(path: Path) -> tuple[str, ...]:
        placed = _placed(tensors, path / CONSTANTS, sources)
        (path / TENSORS).write_text(json.dumps(placed), "utf-8")
        return (CONSTANTS, TENSORS) if (path / CONSTANTS).exists() else (TENSORS,)

    processor.store(folder_of(key), write)


def _exported(module: torch.nn.Module, *, typed: bool) -> torch.export.ExportedProgram:
    names = input_names(typed=typed)
    any_shape = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of values it treats as constants; a wrong one shows in the answers
        return torch.export.export(module, example, dynamic_shapes=tuple(any_shape for _ in names))


class _Listing:
    """An exported program in the form that `TorchProgram` reads."""

    def __init__(self, program: torch.export.ExportedProgram, numerics: str) -> None:
        signature = program.graph_signature
        self._steps: list[tuple[str, str, Any, Any]] = []
        self._names: dict[Node, Any] = {}
        lifted = signature.inputs_to_lifted_tensor_constants
        constants = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **lifted}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._names[node] = {"value": constants.get(node.name, node.name)}
        (answer,) = self._walk(program.graph_module, "")
        retained = {*constants.values(), answer["value"]}
        self.constants = set(constants.values())
        self.content = {
            "numerics": numerics,
            "inputs": list(signature.user_inputs),
            "output": answer["value"],
            "steps": [*self._with_unread(retained)],
        }

    def _walk(self, module: GraphModule, prefix: str) -> Any:
        """Add the steps of a graph whose placeholders have these names; returns its output."""
        for node in module.graph.nodes:
            if node.op == "call_function":
                self._call(module, node, prefix)
            elif node.op == "output":
                return self._spelt(node.args[0])
        raise ValueError("a graph without output")

    def _call(self, module: GraphModule, node: Node, prefix: str) -> None:
        name, target = str(node.target), node.target
        if name.startswith(CHECKS):
            return
        if name in INLINED:
            self._names[node] = self._inline(module, node, INLINED[name], f"{prefix}{node.name}.")
            return
        if getattr(target, "__module__", "") == "_operator":
            name = f"operator.{getattr(target, '__name__', '')}"
        arguments = self._spelt(node.args)
        if name == "operator.getitem" and isinstance(arguments[0], list):  # one of the values of an inlined graph
            self._names[node] = arguments[0][arguments[1]]
            return
        if not name.startswith("aten.") and name.removeprefix("operator.") not in ARITHMETIC:
            raise ValueError(f"no plain operator: {name}")
        self._names[node] = {"value": prefix + node.name}
        self._steps.append((prefix + node.name, name, arguments, {"of": self._spelt(dict(node.kwargs))}))

    def _inline(self, module: GraphModule, node: Node, position: int, prefix: str) -> Any:
        """Add the steps of a graph that a node calls; returns its output."""
        inner = getattr(module, str(cast(Node, node.args[position]).target))
        arguments = node.args[position + 1 :]
        for placeholder, value in zip((n for n in inner.graph.nodes if n.op == "placeholder"), arguments, strict=True):
            self._names[placeholder] = self._spelt(value)
        return self._walk(inner, prefix)

    def _spelt(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self._names[value]
        if isinstance(value, list | tuple):
            return [self._spelt(item) for item in value]
        if isinstance(value, dict):
            return {name: self._spelt(item) for name, item in value.items()}
        if isinstance(value, OF_TORCH):
            return {"torch": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": str(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError(f"no constant: {value!r}")

    def _with_unread(self, retained: set[str]) -> Iterator[tuple[str, str, Any, Any, list[str]]]:
        """The steps, each with the values that no later step reads."""
        read_later, steps = set(retained), []
        for step in reversed(self._steps):
            values = {step[0], *_values(step[2]), *_values(step[3])}
            steps.append((*step, sorted(values - read_later)))
            read_later |= values
        yield from reversed(steps)


def _values(spelt: Any) -> Iterator[str]:
    if isinstance(spelt, list):
        for item in spelt:
            yield from _values(item)
    elif isinstance(spelt, dict) and "value" in spelt:
        yield spelt["value"]
    elif isinstance(spelt, dict):
        yield from _values([*spelt.get("of", {}).values()])


def _placed(constants: dict[str, torch.Tensor], beside: Path, sources: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """The location of each constant; those in no source are written to `beside`."""
    placed: dict[str, tuple[str, str]] = {}
    for file in sources:
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  # not a mapping
                # The names that end in a key of a file, with or without the key's first part, such as `bert`.
                ends = (f".{key}", f".{key.partition('.')[2]}") if "." in key else (f".{key}",)
                for name in [name for name in constants if name.endswith(ends) and name not in placed]:
                    stored, constant = tensors.get_tensor(key), constants[name]
                    if stored.dtype == constant.dtype and torch.equal(stored, constant):
                        placed[name] = (str(file), key)
    unplaced = {name: constant.contiguous().clone() for name, constant in constants.items() if name not in placed}
    if unplaced:
        save_file(unplaced, beside)
    return placed | {name: (beside.name, name) for name in unplaced}


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
        self.numerics: str = content["numerics"]
        self._steps = [
            (name, _operator(function), _reader(arguments), _reader(options), unread)
            for name, function, arguments, options, unread in content["steps"]
        ]

    @classmethod
    def read(cls, file: Path) -> Self:
        """The program from the list in `file`."""
        content = json.loads(file.read_bytes())
        return cls(content, _constants(content["constants"], file.parent))

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
    return processor.cached_file(folder_of(key), LIST)


def folder_of(key: str) -> Path:
    """The cache folder for the part with this key."""
    return processor.cache_folder("torch", EDITION, version("torch"), key)


def tensors(key: str) -> dict[str, torch.Tensor] | None:
    """The cached tensors for `key`, None if there are none."""
    file = processor.cached_file(folder_of(key), TENSORS)
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
