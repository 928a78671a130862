"""A sentence-transformers pipeline as a graph: from ids and mask to the vector, run by torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.types import Floats

PLAIN = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")


class WholePipeline(torch.nn.Module):
    """The whole pipeline, pooling and all, as one module of two inputs; what other backends convert."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Vectors `[n, width]`, as the pipeline makes them."""
        features = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return features["sentence_embedding"]  # type: ignore[no-any-return]


class TorchGraph:
    """Runs a pipeline where its weights are."""

    def __init__(self, model: Any, numerics: str) -> None:
        self._whole, self._model, self._numerics = WholePipeline(model).eval(), model, numerics

    @property
    def numerics(self) -> str:
        """Backend, precision and device."""
        return self._numerics

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Vectors, float32 `[n, width]`."""
        with torch.inference_mode():
            given = (torch.from_numpy(array).to(self._model.device) for array in (ids, mask))
            return np.asarray(self._whole(*given).float().cpu().numpy(), np.float32)


def is_plain(model: Any, prompt: str) -> bool:
    """Whether ids and mask are all that the pipeline reads: no routes, no images, no prompt left out of the pooling."""
    modules = list(model.children())
    if not modules or any(type(module).__name__ not in PLAIN for module in modules):
        return False
    whole = all(getattr(module, "include_prompt", True) for module in modules)
    tokenizer: Any = getattr(model, "tokenizer", None)
    return (
        (whole or not prompt)
        and bool(getattr(tokenizer, "is_fast", False))
        and tokenizer.padding_side == "right"
        and tokenizer.pad_token_id is not None
        and not getattr(modules[0], "do_lower_case", False)
    )
