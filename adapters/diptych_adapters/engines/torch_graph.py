"""Parts of models as modules of ids and attention mask, which any backend can convert, and graphs that torch runs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.batches import Graph

PLAIN = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")


class SingleFeature(torch.nn.Module):
    """A model of sentence-transformers from ids to one of its features.

    Args:
        model: a pipeline or one of its modules.
        feature: its answer, `[n, ...]`, such as sentence_embedding.
    """

    def __init__(self, model: Any, feature: str) -> None:
        super().__init__()
        self.model, self.feature = model, feature

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The feature, as the model makes it."""
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        answer: torch.Tensor = self.model(features)[self.feature]
        return answer


def without_decoder(transformer: Any) -> tuple[torch.nn.Module, torch.nn.Linear] | None:
    """A masked language model without its decoder, and the decoder; None if it has none.

    The module is a copy that shares the weights, so that the given one keeps its decoder.
    """
    network = transformer.auto_model
    decoder = network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None
    if not isinstance(decoder, torch.nn.Linear):
        return None
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*transformer.parameters(), *transformer.buffers())}
    body = copy.deepcopy(transformer, shared)
    copied_decoder = body.auto_model.get_output_embeddings()
    for parent in [*body.modules()]:
        for name in [name for name, child in parent.named_children() if child is copied_decoder]:
            setattr(parent, name, torch.nn.Identity())
    return body, decoder


def is_plain(model: Any, *prompts: str, modules: tuple[str, ...] = PLAIN) -> bool:
    """Whether a pipeline needs only ids and mask: no routes, no images, no prompt excluded from the pooling."""
    parts = list(model.children())
    if not parts or any(type(part).__name__ not in modules for part in parts):
        return False
    pooled = all(getattr(part, "include_prompt", True) for part in parts)
    return (pooled or not any(prompts)) and has_plain_tokens(model) and not getattr(parts[0], "do_lower_case", False)


def has_plain_tokens(model: Any) -> bool:
    """Whether the model's tokenizer is a fast one that pads on the right."""
    tokenizer: Any = getattr(model, "tokenizer", None)
    fast = bool(getattr(tokenizer, "is_fast", False))
    return fast and tokenizer.padding_side == "right" and tokenizer.pad_token_id is not None


def stand_in(transformer: Any, graph: Graph) -> None:
    """Let the module compute its token vectors with a graph instead of its own weights."""

    def forward(features: dict[str, Any], **_: Any) -> dict[str, Any]:
        ids, mask = features["input_ids"].numpy(), features["attention_mask"].numpy()
        features["token_embeddings"] = torch.from_numpy(graph(ids[None], mask))
        return features

    transformer.forward = forward


class TorchGraph:
    """Runs a part of a model where its weights are.

    Args:
        module: the part, see `SingleFeature`.
        numerics: backend, precision and device.
        compiled: let `torch.compile` make the part faster; the first batches take long.
    """

    def __init__(self, module: torch.nn.Module, numerics: str, *, compiled: bool = False) -> None:
        self._device = next(module.parameters()).device
        module = module.eval()
        self._module = torch.compile(module, dynamic=True) if compiled else module
        self.numerics = numerics

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The part's answers, float32 `[n, ...]`."""
        with torch.inference_mode():
            ids, mask_tensor, *types = (
                torch.from_numpy(array).to(self._device, non_blocking=True) for array in (inputs[0], mask, *inputs[1:])
            )
            return np.asarray(self._module(ids, mask_tensor, *types).float().cpu().numpy(), np.float32)
