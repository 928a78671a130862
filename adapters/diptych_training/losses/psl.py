"""UniDEC's loss: a dual encoder and a classifier over one encoder, both over the documents that a batch pools.

Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label Classification", WWW
2025. The pool is `diptych_training.label_pool`'s, the model `diptych_training.models.unidec`'s.

Requirements: (query, document) columns of a `PoolCollator`; labels: ids `[B + M]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss
from diptych_training.losses.contrastive import Reduction, contrastive, symmetric_contrastive
from diptych_training.models.unidec import CLASSIFIER, table_of
from diptych_training.relevance import Relevance


class PSLLoss(RetrievalLoss):
    """`weight` times the loss of the dual encoder and `1 - weight` times that of the classifier.

    The dual encoder compares embeddings of queries and documents by cosine, the classifier its own embedding of a query
    with the free vector of each document. Both take the same pool, mask and reduction.

    Args:
        model: with heads and table, of `diptych_training.models.unidec.with_classifier`.
        relevance: all positives, such as `LabelPool.relevance`; its margin is asked by the dual encoder's cosines, for
            both.
        weight: of the dual encoder, from 0 to 1.
        tau: temperature of both.
        reduction: see `diptych_training.losses.contrastive`.
        symmetric: take the mean with the loss of documents that ask for their queries.
        classifier_similarity: `dot` as published, or `cosine`, by which the exported model compares.
        dropout: on embeddings and free vectors while the model trains.
    """

    def __init__(
        self,
        model: Any,
        *,
        relevance: Relevance,
        weight: float = 0.5,
        tau: float = 1 / 18,
        reduction: Reduction = "decoupled",
        symmetric: bool = True,
        classifier_similarity: str = "dot",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(model, relevance=relevance)
        if not 0 <= weight <= 1:
            raise ContractError("unusable weight", where="PSLLoss", got=weight, expected="from 0 to 1")
        if classifier_similarity not in ("dot", "cosine"):
            got = classifier_similarity
            raise ContractError("unknown similarity", where="PSLLoss", got=got, expected="dot, cosine")
        self.table, self.weight, self.tau, self.reduction = table_of(model), weight, tau, reduction
        self.symmetric, self.classifier_similarity, self.dropout = symmetric, classifier_similarity, dropout

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch of pooled columns."""
        queries, documents = (self.model(dict(features)) for features in sentence_features)
        columns = [queries["sentence_embedding"], documents["sentence_embedding"], queries[CLASSIFIER]]
        return self.compute_loss_from_embeddings(columns, labels)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss from embeddings of queries `[B, D]`, of the pool `[M, D]`, and the classifier's of queries `[B, C]`.

        Raises:
            ContractError: the labels are not ids of a pool, or of documents that the table has not.
        """
        *columns, classified = [self._dropped(part.float()) for part in embeddings]
        candidates = self.candidates(columns, labels)
        places = candidates.documents
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(self.table.weight):
            got, expected = f"ids {int(places.min())} to {int(places.max())}", f"0 to {len(self.table.weight) - 1}"
            raise ContractError("some documents have no row in the table", where="PSLLoss", got=got, expected=expected)
        queries, documents = self.prepared(columns)
        rows = self._dropped(self.table.weight[places].float())
        if self.classifier_similarity == "cosine":
            classified, rows = (torch.nn.functional.normalize(part, dim=-1) for part in (classified, rows))
        parts = [queries @ documents.T, classified @ rows.T]
        contrast = symmetric_contrastive if self.symmetric else contrastive
        candidates = candidates.margin_filtered(parts[0], self.margin)
        losses = [
            contrast(part / self.tau, candidates.positive, candidates.negative, reduction=self.reduction)
            for part in parts
        ]
        return self.weight * losses[0] + (1 - self.weight) * losses[1]

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        names = ("weight", "tau", "reduction", "symmetric", "classifier_similarity", "dropout")
        return {name: getattr(self, name) for name in names}

    def _dropped(self, vectors: Tensor) -> Tensor:
        return torch.nn.functional.dropout(vectors, self.dropout, training=bool(self.model.training))
