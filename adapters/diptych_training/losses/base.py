"""The base of the losses, which embeds the columns of a batch with a sentence-transformers model, and their draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util import maxsim
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.relevance import Candidates, Relevance

Teacher: TypeAlias = Callable[[Tensor], Tensor]  # ids [B, 1 + C] of queries and documents -> scores [B, C]

Features = dict[str, Tensor]
SIMILARITIES = ("cosine", "dot", "maxsim")
SPREAD = 1_000_003  # from the seed of one draw to that of the next


class RetrievalLoss(torch.nn.Module, ABC):
    """A loss over the embeddings of (query, positive, negative_1, ...) columns, for sentence-transformers' trainers.

    Its one primitive is `compute_loss_from_embeddings`, which SpladeLoss and gradient caching call as well.

    Args:
        model: SentenceTransformer, SparseEncoder or MultiVectorEncoder that is trained.
        relevance: what is known beside each row's own positive, and its margin; see `diptych_training.relevance`.
        similarity: `cosine`, `dot` of the embeddings as they are, or for late interaction `maxsim`: the mean over the
            query's tokens of the best cosine among the document's.
    """

    takes_ids: ClassVar[bool] = False  # in labels that hold a teacher's scores, before these
    takes_further: ClassVar[bool] = False  # negatives beside those of the batch; see `with_extra_negatives`
    more_negatives: Any  # `ExtraNegatives`, or None

    def __init__(self, model: Any, *, relevance: Relevance | None = None, similarity: str = "cosine") -> None:
        super().__init__()
        if similarity not in SIMILARITIES:
            expected = ", ".join(SIMILARITIES)
            raise ContractError("unknown similarity", where=type(self).__name__, got=similarity, expected=expected)
        self.model, self.similarity = model, similarity
        self.relevance = relevance or Relevance()
        self.more_negatives = None

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            sentence_features: tokenised columns: queries, positives, then each column of negatives.
            labels: integer ids `[B, 2 + H]`, of a pool of documents `[B + M]`, or what the loss says.
        """
        batch = list(sentence_features)
        self.look_at(batch)
        embeddings = [self.embedded(features, place) for place, features in enumerate(batch)]
        return self.compute_loss_from_embeddings(embeddings, labels)

    def look_at(self, features: Sequence[Features]) -> None:
        """Let the twin of a queue, if there is one, encode the batch for the next `compute_loss_from_embeddings`."""
        if self.more_negatives is not None and self.training:
            self.more_negatives.look_at(features)

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
        dense = [column.to_dense() if column.is_sparse else column for column in embeddings]
        queries, documents = dense[0].float(), torch.cat(_as_long([column.float() for column in dense[1:]]))
        if self.similarity != "dot":
            normal = torch.nn.functional.normalize
            return normal(queries, dim=-1), normal(documents, dim=-1)
        return queries, documents

    def similarities(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The similarity of each of `queries [B, ...]` with each of `documents [M, ...]`, both prepared; `[B, M]`."""
        return similarities(queries, documents)

    @property
    def margin(self) -> float | None:
        """The margin of `relevance`."""
        return self.relevance.margin

    def masked(self, embeddings: Sequence[Tensor], labels: Tensor | None) -> tuple[Tensor, Candidates]:
        """Similarities `[B, M]`, and what of them is relevant or a negative, without what the margin leaves out."""
        return self.scored(*self.prepared(embeddings), self.candidates(embeddings, labels))

    def scored(self, queries: Tensor, documents: Tensor, candidates: Candidates) -> tuple[Tensor, Candidates]:
        """The same for queries and documents that are prepared."""
        documents, candidates = self.with_earlier(documents, candidates)
        similarity = self.similarities(queries, documents)
        return self.with_mixed(queries, documents, similarity, candidates.margin_filtered(similarity, self.margin))

    def with_earlier(self, documents: Tensor, candidates: Candidates) -> tuple[Tensor, Candidates]:
        """Prepared documents and candidates, followed by those of earlier batches, if any are kept."""
        if self.more_negatives is None or not self.training:
            return documents, candidates
        widened: tuple[Tensor, Candidates] = self.more_negatives.with_queue(
            documents, candidates, self.relevance, prepared=self.prepared
        )
        return widened

    def with_mixed(
        self, queries: Tensor, documents: Tensor, similarity: Tensor, candidates: Candidates
    ) -> tuple[Tensor, Candidates]:
        """Similarities and candidates, followed by mixed negatives, if any."""
        if self.more_negatives is None or not self.training:
            return similarity, candidates
        widened: tuple[Tensor, Candidates] = self.more_negatives.mixed(queries, documents, similarity, candidates)
        return widened

    def candidates(self, embeddings: Sequence[Tensor], labels: Tensor | None) -> Candidates:
        """What is relevant to what in this batch, ignoring the margin."""
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


def _as_long(columns: list[Tensor]) -> list[Tensor]:
    """Columns of tokens with as many as the longest has, filled up with zeros; columns of vectors as they are."""
    if columns[0].ndim == 2:
        return columns
    longest = max(column.shape[1] for column in columns)
    return [torch.nn.functional.pad(column, (0, 0, 0, longest - column.shape[1])) for column in columns]


def mean_of_rows(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of `values [B]` over the rows that count; 0, with a gradient of 0, where none does."""
    values_of_counted = torch.where(counted, values, torch.zeros_like(values))
    return values_of_counted.sum() / counted.sum().clamp(min=1)


def logsumexp_where(scores: Tensor, chosen: Tensor) -> Tensor:
    """log of the sum of exp(scores) over the chosen entries of each row `[B]`; 0, without gradient, for none."""
    counted = chosen.any(1, keepdim=True)
    masked = torch.where(counted, scores.masked_fill(~chosen, -torch.inf), torch.zeros_like(scores))
    return masked.logsumexp(1) * counted[:, 0]


class SeededDraws(torch.nn.Module):
    """A generator for each draw, seeded by `seed` and `number`, a buffer, so that checkpoints store it."""

    number: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("number", torch.tensor(0))

    def forward(self) -> torch.Generator:
        """The next generator."""
        self.number += 1
        return torch.Generator().manual_seed(self.seed + SPREAD * int(self.number))


class OnlineDistillationLoss(RetrievalLoss):
    """Any loss that distils a teacher, with ids in the label column, for which the teacher is asked during training.

    A loss sees tokens and labels, not texts, so the labels say which texts a row has. Negatives may change during the
    training, as in AR2; if they do not, storing the scores once is simpler.

    Requirements: (query, positive, negative_1, ...) columns; labels: ids `[B, 2 + H]`.

    Args:
        loss: `KLDistillation`, `CPRDLoss`, `AR2RetrieverLoss`, `DualMarginMSELoss`: it gets float labels `[B, 1 + H]`,
            behind the ids where it takes them.
        teacher: scores by ids, such as a `diptych_training.teacher_scores.LiveTeacher`.
    """

    def __init__(self, loss: RetrievalLoss, teacher: Teacher) -> None:
        super().__init__(loss.model, similarity=loss.similarity)
        self.loss, self.teacher = loss, teacher

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Raises:
            ContractError: the labels are not ids, or ids that the teacher does not know.
        """
        columns = list(sentence_features)
        loss: Tensor = self.loss(columns, self._scores(labels, len(columns)))
        return loss

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch from the embeddings of its columns."""
        return self.loss.compute_loss_from_embeddings(embeddings, self._scores(labels, len(embeddings)))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        inner: dict[str, Any] = getattr(self.loss, "get_config_dict", dict)()
        return {"loss": type(self.loss).__name__, **inner, "teacher": type(self.teacher).__name__}

    def _scores(self, labels: Tensor | None, columns: int) -> Tensor:
        fits = labels is not None and labels.ndim == 2 and not labels.is_floating_point() and labels.shape[1] == columns
        if labels is None or not fits:
            raise ContractError(
                "a teacher needs ids as labels",
                where="OnlineDistillationLoss",
                got="no labels" if labels is None else f"{labels.dtype} {list(labels.shape)}",
                expected=f"integers [B, {columns}]: query, positive and each negative",
            )
        scores = self.teacher(labels).to(labels.device)
        return torch.cat([labels.to(scores), scores], 1) if self.loss.takes_ids else scores


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
        batch = list(sentence_features)
        self.loss.look_at(batch)
        loss: Tensor = self.forward_cached(batch, labels)
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

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        inner: dict[str, Any] = getattr(self.loss, "get_config_dict", dict)()
        return {"loss": type(self.loss).__name__, **inner, "mini_batch_size": self.mini_batch_size}
