"""Trains a lexicon's head without storing the logits of all tokens over all words.

sentence-transformers decodes every token to the whole vocabulary, keeps those rows for the gradient, and takes the
logarithm of all of them: of 32 texts of 256 tokens a billion bytes, several times. Here the maximum over the tokens is
taken block by block of the vocabulary, over the logits themselves since what follows keeps their order, and the
gradient goes to the one token that gave each term, of the terms that have one. A lexicon's terms are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor

TOKENS = 1024  # decoded together, so that their logits over a block of the lexicon stay in the processor's cache
BLOCK = 2048  # words that are decoded together
NEAR = 1e-3  # how far the weights of a trial may be from the library's


class MaxLogits(torch.autograd.Function):
    """The greatest logit of each word over the tokens of each text, `[n, words]` in float32 or finer."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor) -> Tensor:
        """The maxima.

        Args:
            vectors: what the decoder reads, `[n, tokens, width]`.
            weight, bias: of the decoder, `[words, width]` and `[words]`.
            mask: bool `[n, tokens]`; every text has a token.
        """
        # The precision of the logits: autocast's if it is on.
        device = vectors.device.type
        ctx.kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else vectors.dtype
        ctx.save_for_backward(vectors, weight, mask)
        ctx.biased = bias is not None
        # Padding is replaced by the text's first token, which changes no maximum.
        first = vectors[torch.arange(len(vectors), device=vectors.device), mask.int().argmax(1)]
        padded = torch.where(mask[:, :, None], vectors, first[:, None]).to(ctx.kind)
        decoder, step = weight.to(ctx.kind), max(1, TOKENS // mask.shape[1])
        maxima = torch.cat([_maxima(padded[start : start + step], decoder) for start in range(0, len(padded), step)])
        maxima = maxima.to(torch.promote_types(vectors.dtype, torch.float32))
        return maxima if bias is None else maxima + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """The gradients, text by text, of the terms that have one."""
        (gradient,) = gradients
        vectors, weight, mask = ctx.saved_tensors
        of_vectors = torch.zeros_like(vectors, dtype=gradient.dtype)
        of_weight = torch.zeros_like(weight, dtype=gradient.dtype)
        for row, row_gradient in enumerate(gradient):
            terms, tokens = row_gradient.nonzero()[:, 0], mask[row].nonzero()[:, 0]
            token_vectors, rows, part = vectors[row, tokens], weight[terms], row_gradient[terms, None]
            places = (token_vectors.to(ctx.kind) @ rows.to(ctx.kind).T).argmax(0)
            of_weight[terms] += part * token_vectors[places]
            of_vectors[row].index_add_(0, tokens[places], part * rows)
        of_bias = gradient.sum(0) if ctx.biased else None
        return of_vectors.to(vectors.dtype), of_weight.to(weight.dtype), of_bias, None


def max_logits(vectors: Tensor, decoder: torch.nn.Linear, mask: Tensor) -> Tensor:
    """The greatest logit of each word over the tokens of each text; see `MaxLogits`."""
    apply: Callable[..., Tensor] = MaxLogits.apply  # annotated in some releases of torch only
    return apply(vectors, decoder.weight, decoder.bias, mask.bool())


@contextmanager
def blockwise(model: Any) -> Iterator[bool]:
    """Within the block a SparseEncoder decodes and pools piece by piece; yields whether it does.

    The model's parameters and saved form do not change. A model whose answers to a trial would change stays as it is:
    one that pools by sums, or whose network does more after its decoder.

    Args:
        model: SparseEncoder; routes are looked into.
    """
    heads = [head for parts in _pipelines(model) if (head := _head(parts)) is not None]
    with ExitStack() as stack:
        expected = [head.trial() for head in heads]
        for head in heads:
            stack.enter_context(undecoded(head.decoder))
            stack.enter_context(_replaced(head.pooling, head.pooled))
        same = all(
            torch.allclose(weights, head.trial(), atol=NEAR) for weights, head in zip(expected, heads, strict=True)
        )
        if not same:
            stack.close()
        yield bool(heads) and same


@contextmanager
def undecoded(decoder: torch.nn.Linear) -> Iterator[None]:
    """Within the block the decoder returns its input, so that the model's logits are the vectors before it."""
    with _replaced(decoder, _identity):
        yield


@dataclass(frozen=True, slots=True)
class _Head:
    """A masked language model of a pipeline, its decoder and its pooling."""

    transformer: Any
    decoder: torch.nn.Linear
    pooling: SpladePooling

    def pooled(self, features: dict[str, Any]) -> dict[str, Any]:
        """The pooling for undecoded vectors. A bound method, so that a copy of the model gets its own."""
        logits = max_logits(features["token_embeddings"], self.decoder, features["attention_mask"])
        weights = logits.relu().log1p()
        features["sentence_embedding"] = (
            weights.log1p() if self.pooling.activation_function == "log1p_relu" else weights
        )
        self.pooling.embedding_dimension = weights.shape[1]
        return features

    def trial(self) -> Tensor:
        """Term weights of two texts, with the present weights."""
        trained = self.transformer.training
        self.transformer.eval()
        features = self.transformer.preprocess(["a trial", "of a longer text than the other one"])
        inputs = {name: _on_device(value, self.decoder.weight) for name, value in features.items()}
        with torch.no_grad():
            weights: Tensor = self.pooling(self.transformer(inputs))["sentence_embedding"].float()
        self.transformer.train(trained)
        return weights


@contextmanager
def _replaced(module: torch.nn.Module, forward: Any) -> Iterator[None]:
    """Replace the module's forward within the block."""
    original = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if original is not None:
            module.forward = original


def _identity(vectors: Tensor) -> Tensor:
    return vectors


def _on_device(value: Any, weight: Tensor) -> Any:
    return value.to(weight.device) if isinstance(value, Tensor) else value


def _pipelines(model: Any) -> list[list[Any]]:
    """The model's modules in order, and those of each route."""
    parts = list(model.children())
    routes = [list(route) for part in parts if hasattr(part, "sub_modules") for route in part.sub_modules.values()]
    return [parts, *routes]


def _head(parts: list[Any]) -> _Head | None:
    pooling = parts[1] if len(parts) > 1 else None
    if not isinstance(pooling, SpladePooling) or pooling.pooling_strategy != "max":
        return None
    network: Any = getattr(parts[0], "auto_model", None)
    decoder = network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None
    return _Head(parts[0], decoder, pooling) if isinstance(decoder, torch.nn.Linear) else None


def _maxima(vectors: Tensor, weight: Tensor) -> Tensor:
    """The greatest products `[n, words]` in the precision given.

    Rounding keeps the order, so that the maximum of rounded products is that which float32 would find among them.
    """
    n, tokens, width = vectors.shape
    columns = vectors.reshape(n * tokens, width).T.contiguous()
    starts = range(0, len(weight), BLOCK)
    return torch.cat([torch.mm(weight[s : s + BLOCK], columns).view(-1, n, tokens).amax(2) for s in starts]).T
