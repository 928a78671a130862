"""Graphs that torch runs: a part of a model where its weights are, and the end of a pipeline behind another graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.runner import Graph


class TorchGraph:
    """Runs a part of a model where its weights are.

    Args:
        module: the part, see `graph_modules.SingleFeature`.
        numerics: backend, precision and device.
        compiled: let `torch.compile` make the part faster; the first batches take long.
    """

    def __init__(self, module: torch.nn.Module, numerics: str, *, compiled: bool = False) -> None:
        self._device = next(module.parameters()).device
        module = module.eval()
        self._module = torch.compile(module, dynamic=True) if compiled else module
        self._numerics = numerics

    @property
    def numerics(self) -> str:
        """Backend, precision and device."""
        return self._numerics

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The part's answers, float32 `[n, ...]`."""
        with torch.inference_mode():
            ids, mask_tensor, *types = (
                torch.from_numpy(array).to(self._device, non_blocking=True) for array in (inputs[0], mask, *inputs[1:])
            )
            return np.asarray(self._module(ids, mask_tensor, *types).float().cpu().numpy(), np.float32)


class Finished:
    """A graph followed by the remaining modules, if it answers for each token: pooling, dense layers, normalisation."""

    def __init__(self, graph: Graph, modules: Sequence[torch.nn.Module]) -> None:
        self._graph, self._modules = graph, modules

    @property
    def numerics(self) -> str:
        """Backend, precision and device of the graph."""
        return self._graph.numerics

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The pipeline's answers, float32 `[n, ...]`."""
        answers = self._graph(inputs, mask)
        if answers.ndim < 3 or not self._modules:
            return answers
        features = {"token_embeddings": torch.from_numpy(answers), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            for module in self._modules:
                features = module(features)
        return np.asarray(features["sentence_embedding"].numpy(), np.float32)
