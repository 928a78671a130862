"""`Relevance`: which documents of a batch are relevant to which of its queries.

A document that is relevant to one query may be in the batch as the positive of another, and a loss that does not know
this would push it away. `Relevance` holds the judgements (qrels), and `Candidates` says for a batch which pairs are
positive, which are negative, and which do not count. Every loss of `diptych_training` uses it.

Ids come in the label column: an integer tensor `[B, 2 + H]` of the query's id, its positive's and its H negatives'.
Ids below 0 are unknown: such a document is relevant to its own row alone. Without such a column every document is.
Rows of one query share their positives, whether these are judged or not.
Where all rows of a batch share one pool of documents the ids are `[B + M]`; see `diptych_training.recipes.dexml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diptych.errors import ContractError


class Relevance(torch.nn.Module):
    """Judged relevance as the rows of a sparse matrix, queries by documents; part of a loss, and moved with it.

    Args:
        pairs: `(query id, document id)` that are relevant, as integers from 0.
    """

    keys: Tensor

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        super().__init__()
        pair_ids = torch.tensor(sorted(set(pairs)), dtype=torch.int64).reshape(-1, 2)
        if len(pair_ids) and int(pair_ids.min()) < 0:
            raise ContractError(
                "the judgements name unknown ids", where="Relevance", got=int(pair_ids.min()), expected=">= 0"
            )
        self.documents = int(pair_ids[:, 1].max()) + 1 if len(pair_ids) else 1
        # Row-major places of the relevant pairs, ascending: a pair is looked up by bisection.
        self.register_buffer("keys", pair_ids[:, 0] * self.documents + pair_ids[:, 1], persistent=False)

    @classmethod
    def of(
        cls, qrels: Mapping[str, Mapping[str, float]], queries: Mapping[str, int], documents: Mapping[str, int]
    ) -> Relevance:
        """From judgements by name, with the numbers of the names. Grades of 0 and less are no relevance."""
        judged = ((q, d) for q, grades in qrels.items() if q in queries for d, grade in grades.items() if grade > 0)
        pairs = ((queries[query], documents[document]) for query, document in judged if document in documents)
        return cls(pairs)

    def forward(self, queries: Tensor, documents: Tensor) -> Tensor:
        """Whether each of `documents [M]` is relevant to each of `queries [B]`, bool `[B, M]`; unknown ids are not."""
        known_ids = (queries >= 0)[:, None] & (documents >= 0)[None] & (documents < self.documents)[None]
        if not len(self.keys):
            return torch.zeros_like(known_ids)
        keys = queries[:, None] * self.documents + documents[None]
        positions = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return known_ids & (self.keys[positions] == keys)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidate documents of a batch's queries.

    `positive` and `negative` are bool `[B, M]` and exclude each other; pairs that are neither do not count.
    `own_column` `[B]` is the column of each row's own positive. `queries` `[B]` and `documents` `[M]` are ids, -1 where
    unknown. Columns are the positives of all rows, then their first negatives, and so on.
    """

    positive: Tensor
    negative: Tensor
    own_column: Tensor
    queries: Tensor
    documents: Tensor

    @classmethod
    def of(cls, rows: int, columns: int, labels: Tensor | None, relevance: Relevance) -> Candidates:
        """For `rows` queries with `columns` documents each.

        Raises:
            ContractError: labels that are not ids of these rows.
        """
        device = relevance.keys.device
        queries, documents = _ids(rows, columns, labels, device)
        columns_of_all = torch.arange(rows * columns, device=device)
        own_column = torch.arange(rows, device=device)
        own_ids = documents[own_column]
        is_own = (own_column[:, None] == columns_of_all[None]) | (
            (own_ids[:, None] == documents[None]) & (own_ids >= 0)[:, None]
        )
        # `positive` `[B, M]`, and for each row what is positive in the other rows of its query, where that is known.
        same = (queries[:, None] == queries[None]) & (queries >= 0)[:, None]
        positive = relevance(queries, documents) | (is_own | (same.float() @ is_own.float() > 0))
        is_first = _first(documents)
        own_column = torch.where(documents[own_column] >= 0, _column_of(documents)[own_column], own_column)
        return cls(positive & is_first[None], ~positive & is_first[None], own_column, queries, documents)

    @classmethod
    def pooled(cls, queries: Tensor, documents: Tensor, relevance: Relevance) -> Candidates:
        """For queries `[B]` and documents `[M]` by id, where only `relevance` relates documents to rows.

        `own_column` is the first positive of a row, 0 for a row without positives.
        """
        queries, documents = queries.to(relevance.keys.device), documents.to(relevance.keys.device)
        is_first = _first(documents)[None]
        positive = relevance(queries, documents) & is_first
        return cls(positive, ~positive & is_first, positive.int().argmax(1), queries, documents)

    def sampled(self, number: int) -> Candidates:
        """With at most `number` positives of each row, drawn uniformly by torch's generator; others do not count."""
        draws = torch.rand(self.positive.shape, device=self.positive.device).masked_fill(~self.positive, 2.0)
        is_drawn = torch.zeros_like(self.positive)
        is_drawn.scatter_(1, draws.topk(min(number, draws.shape[1]), largest=False).indices, torch.ones_like(is_drawn))
        return replace(self, positive=self.positive & is_drawn)

    def without(self, dropped: Tensor) -> Candidates:
        """Without the negatives where `dropped` `[B, M]` is true."""
        return replace(self, negative=self.negative & ~dropped)

    def with_negatives(self, counted: Tensor) -> Candidates:
        """With further columns `[B, N]` of no known document, negatives where `counted`."""
        unknown = torch.full((counted.shape[1],), -1).to(self.documents)
        positive = torch.cat([self.positive, torch.zeros_like(counted)], 1)
        negative, documents = torch.cat([self.negative, counted], 1), torch.cat([self.documents, unknown])
        return replace(self, positive=positive, negative=negative, documents=documents)

    def of_rows(self, columns: int) -> Tensor:
        """Bool `[B, columns]`: whether each document of a row is relevant to the row's own query."""
        rows, places = len(self.queries), torch.arange(len(self.documents), device=self.documents.device)
        first = torch.where(self.documents >= 0, _column_of(self.documents), places)
        return self.positive[:, first].reshape(rows, columns, rows).diagonal(dim1=0, dim2=2).T

    @property
    def sisters(self) -> Tensor:
        """Bool `[B, B]`: whether the own positive of row j is relevant to query i; true on the diagonal."""
        return self.positive[:, self.own_column]


def _ids(rows: int, columns: int, labels: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    unknown = torch.full((rows, columns + 1), -1, dtype=torch.int64, device=device)
    if labels is None or labels.ndim < 2 or labels.is_floating_point():
        ids = unknown
    elif labels.shape == unknown.shape:
        ids = labels.to(device=device, dtype=torch.int64)
    else:
        raise ContractError(
            "labels are not ids of the rows",
            where="the label column",
            got=list(labels.shape),
            expected=f"integers {list(unknown.shape)}: query, positive and each negative",
        )
    return ids[:, 0], ids[:, 1:].T.reshape(-1)


def _first(documents: Tensor) -> Tensor:
    """Bool `[M]`: whether a column is the first of its document; unknown ones are."""
    return (documents < 0) | (_column_of(documents) == torch.arange(len(documents), device=documents.device))


def _column_of(documents: Tensor) -> Tensor:
    """The first column with the same id, for each column."""
    return (documents[:, None] == documents[None]).int().argmax(1)
