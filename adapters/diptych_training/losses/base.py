"""The base of the losses, which embeds the columns of a batch with a sentence-transformers model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util import maxsim
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.relevance import Candidates, Relevance

Features = dict[str, Tensor]
SIMILARITIES = ("cosine", "dot", "maxsim")


class RetrievalLoss(torch.nn.Module, ABC):
    """A loss over the embeddings of (query, positive, negative_1, ...) columns, for sentence-transformers' trainers.

    Its one primitive is `compute_loss_from_embeddings`, which SpladeLoss and gradient caching call as well.

    Args:
        model: SentenceTransformer, SparseEncoder or MultiVectorEncoder that is trained.
        tau: temperature, by which similarities are divided.
        relevance: what is known beside each row's own positive; see `diptych_training.relevance`.
        similarity: `cosine`, `dot` of the embeddings as they are, or for late interaction `maxsim`: the mean over the
            query's tokens of the best cosine among the document's.
    """

    def __init__(
        self, model: Any, *, tau: float = 0.05, relevance: Relevance | None = None, similarity: str = "cosine"
    ) -> None:
        super().__init__()
        if similarity not in SIMILARITIES:
            expected = ", ".join(SIMILARITIES)
            raise ContractError("unknown similarity", where=type(self).__name__, got=similarity, expected=expected)
        self.model, self.tau, self.similarity = model, tau, similarity
        self.relevance = relevance or Relevance()

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            sentence_features: tokenised columns: queries, positives, then each column of negatives.
            labels: integer ids `[B, 2 + H]`, of a pool of documents `[B + M]`, or what the loss says.
        """
        embeddings = [self.embedded(features, place) for place, features in enumerate(sentence_features)]
        return self.compute_loss_from_embeddings(embeddings, labels)

    def embedded(self, features: Features, place: int) -> Tensor:
        """The embeddings of a column, the queries' at place 0: `[B, D]`, or of tokens `[B, T, D]`, zeros for none."""
        if self.similarity != "maxsim":
            vectors: Tensor = self.model(dict(features))["sentence_embedding"]
            return vectors
        inputs = dict(features)
        task: Any = inputs.pop("task", "document" if place else "query")
        output = self.model(inputs, task=task)
        tokens: Tensor = output["token_embeddings"] * output["attention_mask"][..., None].to(output["token_embeddings"])
        return tokens

    @abstractmethod
    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch from the embeddings of its columns, each `[B, D]`, or of tokens `[B, T, D]`; a scalar.

        Raises:
            ContractError: too few columns, or labels that do not fit.
        """

    def prepared(self, embeddings: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Queries `[B, D]` and candidates `[B (1 + H), D]` in float32, or of tokens; of unit length unless for dot."""
        if len(embeddings) < 2:
            raise ContractError(
                "a batch without documents",
                where=type(self).__name__,
                got=f"{len(embeddings)} column",
                expected="query, positive and any number of negatives",
            )
        queries, *columns = [(own.to_dense() if own.is_sparse else own).float() for own in embeddings]
        if queries.ndim == 3:  # of tokens: as many as the longest has, filled up with zeros
            longest = max(column.shape[1] for column in columns)
            columns = [torch.nn.functional.pad(own, (0, 0, 0, longest - own.shape[1])) for own in columns]
        documents = torch.cat(columns)
        if self.similarity != "dot":
            normal = torch.nn.functional.normalize
            return normal(queries, dim=-1), normal(documents, dim=-1)
        return queries, documents

    def similarities(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The similarity of each of `queries [B, ...]` with each of `documents [M, ...]`, both prepared; `[B, M]`."""
        return similarities(queries, documents)

    def candidates(self, embeddings: Sequence[Tensor], labels: Tensor | None) -> Candidates:
        """What is relevant to what in this batch."""
        self.relevance.to(embeddings[0].device)
        rows, documents = len(embeddings[0]), sum(len(column) for column in embeddings[1:])
        if labels is not None and labels.shape == (rows + documents,) and not labels.is_floating_point():
            return Candidates.pooled(labels[:rows], labels[rows:], self.relevance)
        if documents != rows * (len(embeddings) - 1):
            raise ContractError(
                "extra documents need ids",
                where="the label column",
                got=None if labels is None else list(labels.shape),
                expected=f"integers [{rows + documents}]: of {rows} queries, then of {documents} documents",
            )
        return Candidates.of(rows, len(embeddings) - 1, labels, self.relevance)


def similarities(queries: Tensor, documents: Tensor) -> Tensor:
    """Dot products `[B, M]` of vectors; of tokens, a token of zeros being none, the mean of each query token's best."""
    if queries.ndim == 2:
        return queries @ documents.T
    query_mask, document_mask = queries.any(-1), documents.any(-1)
    values: Tensor = maxsim(queries, documents, a_mask=query_mask, b_mask=document_mask, length_normalize=True)
    return values


def mean_of_rows(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of `values [B]` over the rows that count; 0, with a gradient of 0, where none does."""
    values_of_counted = torch.where(counted, values, torch.zeros_like(values))
    return values_of_counted.sum() / counted.sum().clamp(min=1)


def logsumexp_where(scores: Tensor, chosen: Tensor) -> Tensor:
    """log of the sum of exp(scores) over the chosen entries of each row `[B]`; 0, without gradient, for none."""
    counted = chosen.any(1, keepdim=True)
    masked = torch.where(counted, scores.masked_fill(~chosen, -torch.inf), torch.zeros_like(scores))
    return masked.logsumexp(1) * counted[:, 0]


class CachedLoss(CachedLossMixin, torch.nn.Module):
    """Any `RetrievalLoss` over batches whose activations do not fit into memory: gradient caching.

    Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021.
    The caching itself is sentence-transformers' own.

    The batch is embedded in pieces without gradients, the loss taken over all of it, and each piece embedded again with
    its share of the gradient: the same gradient as without, for one more forward pass.

    Args:
        loss: that is taken over the whole batch.
        mini_batch_size: rows of a column that are embedded at a time.
    """

    def __init__(self, loss: RetrievalLoss, *, mini_batch_size: int = 32) -> None:
        super().__init__()
        if loss.similarity == "maxsim":
            raise ContractError(
                "late interaction cannot be trained with cached gradients",
                where="CachedLoss",
                got="similarity maxsim",
                do="use smaller batches, or sentence-transformers' CachedMultiVectorMultipleNegativesRankingLoss",
            )
        self.model, self.loss, self.mini_batch_size = loss.model, loss, mini_batch_size

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch; see the cached loss."""
        loss: Tensor = self.forward_cached(list(sentence_features), labels)
        return loss

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss from the pieces of each column, and its gradient up to them."""
        loss = self.loss.compute_loss_from_embeddings([torch.cat(column) for column in reps], labels)
        if with_backward:
            loss.backward()
            return loss.detach()
        return loss
