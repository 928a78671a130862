"""The head of SPLADE: the decoder of a masked language model and the pooling of its logits, without keeping them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.runner import Graph

TOKENS = 1024  # decoded together, so that their logits over a block of the lexicon stay in the processor's cache
BLOCK = 2048  # words of the lexicon that are decoded together


class LexiconGraph:
    """Term weights `[n, words]` of a graph of token vectors: log(1 + relu(logit)), the maximum or sum over tokens.

    The maximum is taken over the logits themselves, block by block, since what follows does not change their order:
    the logits of all tokens over all words, a thousand times the result, are never held at once.

    Args:
        body: makes the vectors that the decoder reads, float32 `[n, tokens, width]`.
        weight: of the decoder, `[words, width]`.
        bias: of the decoder, `[words]`, None where it has none.
        pooling: max or sum over the tokens.
        activation: relu, or log1p_relu, which takes the logarithm twice.
        unit: whether the weights of a text are brought to unit length.
    """

    def __init__(
        self,
        body: Graph,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        pooling: str,
        activation: str,
        unit: bool = False,
    ) -> None:
        self.body, self._pooling, self._unit = body, pooling, unit
        self._twice = activation == "log1p_relu"
        self._weight = weight.to(torch.bfloat16) if body.numerics.split()[1:2] == ["bfloat16"] else weight
        self._bias = None if bias is None else bias.float()

    @property
    def numerics(self) -> str:
        """Backend, precision and device of the body."""
        return self.body.numerics

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Weights of all words, float32 `[n, words]`."""
        vectors = self.body(inputs, mask)
        rows = np.empty((len(mask), len(self._weight)), np.float32)
        step = max(1, TOKENS // mask.shape[1])
        with torch.inference_mode():
            for start in range(0, len(mask), step):
                part = slice(start, start + step)
                weights = self._pooled(torch.from_numpy(vectors[part]), torch.from_numpy(mask[part])).float()
                if self._unit:
                    weights = torch.nn.functional.normalize(weights, dim=1)
                rows[part] = weights.cpu().numpy()
        return rows

    def _pooled(self, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        real = mask.bool().to(self._weight.device)
        vectors = vectors.to(self._weight.device, self._weight.dtype)
        if self._pooling == "max":  # padding is replaced by the row's first token, which changes no maximum
            vectors = torch.where(real[:, :, None], vectors, vectors[:, :1])
        n, tokens, width = vectors.shape
        columns = vectors.reshape(n * tokens, width).T.contiguous()
        pooled = torch.empty((n, len(self._weight)), device=self._weight.device)
        for start in range(0, len(self._weight), BLOCK):
            block = slice(start, start + BLOCK)
            logits = torch.mm(self._weight[block], columns).view(-1, n, tokens)
            bias = 0.0 if self._bias is None else self._bias[block, None]
            if self._pooling == "max":
                pooled[:, block] = self._activated(logits.amax(2).float() + bias).T
            else:
                weights = self._activated(logits.float() + (bias if isinstance(bias, float) else bias[:, :, None]))
                pooled[:, block] = (weights * real).sum(2).T
        return pooled

    def _activated(self, logits: torch.Tensor) -> torch.Tensor:
        weights = logits.relu_().log1p_()
        return weights.log1p_() if self._twice else weights
