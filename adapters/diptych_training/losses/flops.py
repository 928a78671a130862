"""FLOPS: the expected number of multiplications in an inverted index, as a differentiable penalty.

`FLOPS(W) = sum over terms v of (mean over texts b of |W_bv|)^2`. Paria et al., "Minimizing FLOPs to Learn Efficient
Sparse Representations", ICLR 2020; with SPLADE's queries and documents weighed apart, Formal et al., "SPLADE v2", 2021.
It is 0 only if all weights are 0. For a given total weight it is least if every term has the same.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.sparse_encoder.losses import SpladeLoss
from torch import Tensor
from transformers import TrainerCallback


def flops(weights: Tensor) -> Tensor:
    """FLOPS of term weights `[B, V]`; a scalar."""
    return weights.abs().mean(0).square().sum()


def active_terms(weights: Tensor) -> Tensor:
    """The number of terms of each text `[B]`."""
    return (weights != 0).sum(1)


class Flops(torch.nn.Module):
    """The penalty in the form of sentence-transformers' SpladeLoss; it counts the terms that it sees.

    Args:
        normalized: of the weights at unit length, as LexLIP has it: what a weight of the penalty means then does not
            depend on the scale of the lexicon.
    """

    def __init__(self, *, normalized: bool = False) -> None:
        super().__init__()
        self.normalized = normalized
        self._terms = self._texts = 0

    def compute_loss_from_embeddings(self, embeddings: Tensor) -> Tensor:
        """FLOPS of term weights `[B, V]`, in float32."""
        weights = (embeddings.to_dense() if embeddings.is_sparse else embeddings).float()
        self._terms, self._texts = self._terms + int(active_terms(weights).sum()), self._texts + len(weights)
        return flops(torch.nn.functional.normalize(weights, dim=1) if self.normalized else weights)

    def pop_mean(self) -> float | None:
        """The mean number of terms of the texts seen since the last call; None without any."""
        terms, texts = self._terms, self._texts
        self._terms = self._texts = 0
        return terms / texts if texts else None

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {"normalized": self.normalized}


class SparseLoss(SpladeLoss):
    """A main loss with both penalties, as the trainer of sparse encoders takes it; the ramp of their weights applies.

    Args:
        model: SparseEncoder that is trained.
        main: a loss over embeddings, such as `ContrastiveLoss(model, similarity="dot", tau=1)`.
        query_weight, document_weight: of the penalties once the ramp is over; a weight of 0 still counts terms.
        normalized: see `Flops`.
    """

    def __init__(
        self,
        model: Any,
        main: torch.nn.Module,
        *,
        query_weight: float,
        document_weight: float,
        normalized: bool = False,
    ) -> None:
        super().__init__(
            model,
            main,
            document_regularizer_weight=document_weight,
            query_regularizer_weight=query_weight,
            document_regularizer=Flops(normalized=normalized),
            query_regularizer=Flops(normalized=normalized),
        )


class ActiveTerms(TrainerCallback):
    """Adds the mean numbers of terms of queries and documents to the trainer's logs.

    Args:
        loss: its penalties count.
    """

    def __init__(self, loss: SparseLoss) -> None:
        self._counted: dict[str, Any] = {"query": loss.query_regularizer, "document": loss.document_regularizer}
        self.last: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Add the means since the last log to `logs`."""
        if logs is None or "loss" not in logs:
            return
        means = {f"{side}_active_terms": penalty.pop_mean() for side, penalty in self._counted.items()}
        self.last = {name: round(mean, 1) for name, mean in means.items() if mean is not None}
        logs.update(self.last)


class NonNegative(TrainerCallback):
    """Keeps trained static term weights at 0 or above, after each step.

    Args:
        parameters: of the static side.
    """

    def __init__(self, *parameters: torch.nn.Parameter) -> None:
        self._parameters = parameters

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set negative weights to 0."""
        with torch.no_grad():
            for parameter in self._parameters:
                parameter.clamp_(min=0)
