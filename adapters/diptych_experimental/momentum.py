"""LexLIP's second phase for text: lexicon vectors against a queue from a slower copy of the encoder.

The twin follows the encoder, `twin = m twin + (1 - m) encoder` before each step; the queues keep what it made of the
last documents and queries. Loss: the mean of both directions' cross-entropy over what the twin makes of the batch and
what is in the queue, similarities divided by tau; FLOPS on top, ramped up as SPLADE's. He et al., "Momentum Contrast",
CVPR 2020; Luo et al., "LexLIP", ICCV 2023: unit vectors, tau .05, m .99, 11,520 in the queue, FLOPS .002.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss
from diptych_training.losses.common.extra_negatives import MomentumEncoder, Queue, tensors_of
from diptych_training.losses.contrastive import contrastive
from diptych_training.losses.flops import SparseLoss
from diptych_training.relevance import Candidates, Relevance


class MomentumContrastiveLoss(RetrievalLoss):
    """Both directions' contrast with the twin's vectors of the batch and of the queue; what is relevant is no negative.

    Requirements: (query, positive, negative_1, ...) columns; labels: none, or ids `[B, 2 + H]`.

    Args:
        model: that is trained; the twin is a copy of it as it is at the first batch.
        tau: temperature.
        momentum: m of the twin.
        queue: vectors that are kept of each side.
        relevance, similarity: see `RetrievalLoss`.

    Raises:
        ContractError: a number that makes no sense.
    """

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.05,
        momentum: float = 0.99,
        queue: int = 1024,
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        if not (0 <= momentum < 1 and queue >= 1 and tau > 0):
            got = f"momentum {momentum}, queue {queue}, tau {tau}"
            where, expected = "MomentumContrastiveLoss", "0 <= momentum < 1, queue >= 1, tau > 0"
            raise ContractError("unusable options", where=where, got=got, expected=expected)
        self.tau, self.momentum = tau, momentum
        self._queues = (Queue(queue), Queue(queue))  # a tuple, so that they are no submodules
        self._slow = MomentumEncoder(model, momentum)
        self._twin_embeddings: list[Tensor] = []

    @property
    def queries(self) -> Queue:
        """The twin's vectors of the last queries."""
        return self._queues[0]

    @property
    def documents(self) -> Queue:
        """The twin's vectors of the last documents."""
        return self._queues[1]

    @property
    def twin(self) -> Any:
        """The slow copy of the encoder: initially a copy of the model as it is now."""
        return self._slow.network

    def state_aside(self) -> dict[str, Tensor]:
        """The state in checkpoints beside the trained weights: slow copy and queues."""
        parts = {
            "queries": tensors_of(self.queries),
            "documents": tensors_of(self.documents),
            "twin": self._slow.state(),
        }
        return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}

    def load_aside(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the state of `state_aside`; with an empty one the slow copy and the queues start anew."""
        twin = {name.removeprefix("twin."): value for name, value in state.items() if name.startswith("twin.")}
        self._slow.load(twin)
        for name, queue in (("queries", self.queries), ("documents", self.documents)) if state else ():
            queue.vectors, queue.ids = state[f"{name}.vectors"], state[f"{name}.ids"]

    def look_at(self, features: Sequence[Features]) -> None:
        """Update the slow copy, and let it encode the batch for the next `compute_loss_from_embeddings`."""
        self._twin_embeddings = self._slow.encoded(features, follow=self.training)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch that the slow copy has encoded.

        Raises:
            ContractError: it has not.
        """
        if [vectors.shape for vectors in self._twin_embeddings] != [column.shape for column in embeddings]:
            where, do = "MomentumContrastiveLoss", "call look_at with the batch first, as forward does"
            raise ContractError("the momentum encoder has not seen this batch", where=where, do=do)
        queries, documents = self.prepared(embeddings)
        slow_queries, slow_documents = self.prepared(self._twin_embeddings)
        candidates = self.candidates(embeddings, labels)
        own_ids = candidates.documents[candidates.own_column]
        relevant_documents = self.relevance(candidates.queries, self.documents.ids) | _same(own_ids, self.documents.ids)
        forward_loss = self._contrast(queries, slow_documents, candidates, self.documents, relevant_documents)
        relevant_queries = self.relevance(self.queries.ids, own_ids).T | _same(candidates.queries, self.queries.ids)
        diagonal, sisters = torch.arange(len(own_ids)).to(own_ids), candidates.sisters.T
        transposed = replace(candidates, positive=sisters, negative=~sisters, own_column=diagonal)
        backward_loss = self._contrast(
            documents[candidates.own_column], slow_queries, transposed, self.queries, relevant_queries
        )
        if self.training:
            self.queries.put(slow_queries, candidates.queries)
            self.documents.put(slow_documents, candidates.documents)
        self._twin_embeddings = []
        return (forward_loss + backward_loss) / 2

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {
            "tau": self.tau,
            "momentum": self.momentum,
            "queue": self.queries.size,
            "similarity": self.similarity,
        }

    def _contrast(
        self, vectors: Tensor, pool: Tensor, candidates: Candidates, queue: Queue, left_out: Tensor
    ) -> Tensor:
        """The loss in one direction; `left_out` `[B, held]` marks relevant entries of the queue."""
        similarity = vectors @ torch.cat([pool, queue.like(pool)]).T
        positive = torch.cat([candidates.positive, torch.zeros_like(left_out)], 1)
        widened = replace(candidates, positive=positive, negative=torch.cat([candidates.negative, ~left_out], 1))
        filtered = widened.margin_filtered(similarity, self.margin)
        return contrastive(similarity / self.tau, filtered.positive, filtered.negative)


class LexLIPLoss(SparseLoss):
    """`MomentumContrastiveLoss` with FLOPS of unit vectors.

    Requirements: those of `MomentumContrastiveLoss`.

    Args:
        model: SparseEncoder that is trained.
        flops_weight: of both sides' penalties, at unit length.
        tau, momentum, queue, relevance: see `MomentumContrastiveLoss`.
    """

    def __init__(
        self,
        model: Any,
        *,
        flops_weight: float = 0.002,
        tau: float = 0.05,
        momentum: float = 0.99,
        queue: int = 1024,
        relevance: Relevance | None = None,
    ) -> None:
        main = MomentumContrastiveLoss(model, tau=tau, momentum=momentum, queue=queue, relevance=relevance)
        super().__init__(model, main, query_weight=flops_weight, document_weight=flops_weight, normalized=True)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of a batch's loss by name; the trainer adds them."""
        features = [dict(column) for column in sentence_features]
        main: Any = self.loss
        main.look_at(features)
        parts: dict[str, Tensor] = super().forward(features, labels)
        return parts


def _same(ids: Tensor, queued: Tensor) -> Tensor:
    """Bool `[n, held]`: whether ids are equal; unknown ids are not."""
    return (ids[:, None] == queued.to(ids.device)[None]) & (ids >= 0)[:, None]
