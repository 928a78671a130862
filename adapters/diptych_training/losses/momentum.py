"""LexLIP's second phase for text: lexicon vectors against a queue from a slower copy of the encoder.

The twin follows the encoder, `twin = m twin + (1 - m) encoder` before each step; the queues keep what it made of the
last documents and queries. Loss: the mean of both directions' cross-entropy over what the twin makes of the batch and
what is in the queue, similarities divided by tau; FLOPS on top, ramped up as SPLADE's. He et al., "Momentum Contrast",
CVPR 2020; Luo et al., "LexLIP", ICCV 2023: unit vectors, tau .05, m .99, 11,520 in the queue, FLOPS .002.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss
from diptych_training.losses.common.vector_queue import Queue
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
        # In a tuple and a list: queues and twin are no part of what is trained, and dropout stays off.
        self._queues = (Queue(queue), Queue(queue))
        self._twin: list[Any] = []
        self._seen: list[Tensor] = []
        self._kept: dict[str, Tensor] = {}

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
        """The slow copy of the encoder: initially a copy of the model as it is now, low-rank adapters included."""
        if not self._twin:
            self._twin = [copy.deepcopy(self.model).requires_grad_(False).eval()]
            self._restore()
        return self._twin[0]

    def state_aside(self) -> dict[str, Tensor]:
        """The state in checkpoints beside the trained weights: slow copy and queues."""
        own = {"queries": self.queries, "documents": self.documents, "twin": self.twin}
        return {f"{part}.{name}": value for part, module in own.items() for name, value in _tensors(module).items()}

    def load_aside(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the state of `state_aside`; with an empty one the slow copy and the queues start anew."""
        self._kept = dict(state)
        for name, queue in (("queries", self.queries), ("documents", self.documents)) if state else ():
            queue.vectors, queue.ids = state[f"{name}.vectors"], state[f"{name}.ids"]
        if self._twin:
            self._restore()

    def _restore(self) -> None:
        kept, self._kept = self._kept, {}
        with torch.no_grad():
            for name, value in _tensors(self._twin[0]).items() if kept else ():
                value.copy_(kept[f"twin.{name}"])

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        features = [dict(column) for column in sentence_features]
        self.look_at(features)
        return super().forward(features, labels)

    def look_at(self, features: Sequence[Features]) -> None:
        """Update the slow copy, and let it encode the batch for the next `compute_loss_from_embeddings`."""
        self.twin.to(next(self.model.parameters()).device)
        if self.training:
            self._follow()
        with torch.no_grad():
            self._seen = [self.twin(dict(column))["sentence_embedding"] for column in features]

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch that the slow copy has encoded.

        Raises:
            ContractError: it has not.
        """
        if [seen.shape for seen in self._seen] != [column.shape for column in embeddings]:
            where, do = "MomentumContrastiveLoss", "call look_at with the batch first, as forward does"
            raise ContractError("the twin has not seen this batch", where=where, do=do)
        queries, documents = self.prepared(embeddings)
        slow_queries, slow_documents = self.prepared(self._seen)
        known = self.candidates(embeddings, labels)
        own = known.documents[known.own]
        held = self.relevance(known.queries, self.documents.ids) | _same(own, self.documents.ids)
        there = self._contrast(queries, slow_documents, known, self.documents, held)
        asked = self.relevance(self.queries.ids, own).T | _same(known.queries, self.queries.ids)
        turned = replace(known, positive=known.sisters.T, negative=~known.sisters.T, own=torch.arange(len(own)).to(own))
        back = self._contrast(documents[known.own], slow_queries, turned, self.queries, asked)
        if self.training:
            self.queries.put(slow_queries, known.queries)
            self.documents.put(slow_documents, known.documents)
        self._seen = []
        return (there + back) / 2

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {
            "tau": self.tau,
            "momentum": self.momentum,
            "queue": self.queries.size,
            "similarity": self.similarity,
        }

    def _contrast(self, asking: Tensor, pool: Tensor, known: Candidates, queue: Queue, left_out: Tensor) -> Tensor:
        """The loss in one direction; `left_out` `[B, held]` marks relevant entries of the queue."""
        similarity = asking @ torch.cat([pool, queue.like(pool)]).T
        positive = torch.cat([known.positive, torch.zeros_like(left_out)], 1)
        wider = replace(known, positive=positive, negative=torch.cat([known.negative, ~left_out], 1))
        found = wider.margin_filtered(similarity, self.margin)
        return contrastive(similarity / self.tau, found.positive, found.negative)

    @torch.no_grad()
    def _follow(self) -> None:
        for slow, fast in zip(self.twin.parameters(), self.model.parameters(), strict=True):
            slow.lerp_(fast.detach().to(slow), 1 - self.momentum)


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


def _tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _same(ids: Tensor, held: Tensor) -> Tensor:
    """Bool `[n, held]`: whether ids are equal; unknown ids are not."""
    return (ids[:, None] == held.to(ids.device)[None]) & (ids >= 0)[:, None]
