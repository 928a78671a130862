"""Lists the operators that a part of a model executes, for `torch_program`, and keeps the list in the user's cache.

Weights that the model's own safetensors files hold are read from there; only the others are kept beside the list.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.fx import GraphModule, Node

from diptych_adapters.engines import model_cache
from diptych_adapters.engines.backend import Job
from diptych_adapters.engines.batches import input_names, padded
from diptych_adapters.engines.torch_graph import TorchGraph
from diptych_adapters.engines.torch_program import ARITHMETIC, LIST, TENSORS, TorchProgram, cached_list, folder_of

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
        if not _same(TorchProgram(listing.content, constants), TorchGraph(job.module, job.numerics), job):
            return False
    except Exception:  # torch.export raises errors of many kinds for what it cannot list
        return False

    def write(path: Path) -> tuple[str, ...]:
        placed = _placed(constants, path / CONSTANTS, sources)
        (path / LIST).write_text(json.dumps({**listing.content, "constants": placed}), "utf-8")
        return (CONSTANTS, LIST) if (path / CONSTANTS).exists() else (LIST,)

    model_cache.store(folder_of(job.key), write)
    return cached_list(job.key) is not None


def cache_tensors(key: str, tensors: dict[str, torch.Tensor], sources: Iterable[Path]) -> None:
    """Cache tensors, or their location if the model's files contain them."""

    def write(path: Path) -> tuple[str, ...]:
        placed = _placed(tensors, path / CONSTANTS, sources)
        (path / TENSORS).write_text(json.dumps(placed), "utf-8")
        return (CONSTANTS, TENSORS) if (path / CONSTANTS).exists() else (TENSORS,)

    model_cache.store(folder_of(key), write)


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


def _same(program: TorchProgram, graph: TorchGraph, job: Job) -> bool:
    """Whether both give the same numbers for the trial: each row alone, and all of them, padded."""
    rows = job.tokens.rows(job.trial)
    batches = [padded(single, job.tokens.pad) for single in ([row] for row in rows)]
    return all(np.array_equal(program(*batch), graph(*batch)) for batch in [*batches, padded(rows, job.tokens.pad)])


def _placed(constants: dict[str, torch.Tensor], beside: Path, sources: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """The location of each constant; those in no source are written to `beside`."""
    placed: dict[str, tuple[str, str]] = {}
    for file in sources:
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  # not a mapping
                # The names that end in a key of a file, with or without the key's first part, such as `bert`.
                ends = (f".{key}", f".{key.partition('.')[2]}") if "." in key else (f".{key}",)
                for name in [name for name in constants if name.endswith(ends)]:
                    if name not in placed and _equal(tensors.get_tensor(key), constants[name]):
                        placed[name] = (str(file), key)
    unplaced = {name: constant.contiguous().clone() for name, constant in constants.items() if name not in placed}
    if unplaced:
        save_file(unplaced, beside)
    return placed | {name: (beside.name, name) for name in unplaced}


def _equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    return tensor.dtype == other.dtype and tensor.shape == other.shape and torch.equal(tensor, other)
